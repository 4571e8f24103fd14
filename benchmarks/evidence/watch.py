"""Shoulder exercises by the sensors of a wrist watch (Burns et al. 2018), split by person: a real series with time.

The recordings are those that come with the package seglearn, which is installed by hand: ``pip install --no-deps
seglearn==1.2.5``. Spaces: ``benchmarks/evidence/watch_mlp.toml``, ``benchmarks/evidence/watch_recurrent.toml``.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

from bitsearch.data.splits import Splits
from bitsearch.errors import InputError

WINDOW, HOP = 128, 64
"""Samples at 50 Hz: 2.56 seconds, one every 1.28."""
POOLED = 4
"""Samples whose mean is a frame."""
PERSONS = {"validation": (7, 8), "test": (9, 10)}
"""The other six are for training."""


def recordings() -> dict[str, Any]:
    """As seglearn gives them: series ``X``, classes ``y``, their names ``y_labels``, and whose they are, ``subject``.

    Raises:
        InputError: seglearn is not installed.
    """
    try:
        from seglearn.datasets import load_watch
    except ImportError as error:
        raise InputError("the watch's recordings come with seglearn: pip install --no-deps seglearn==1.2.5") from error
    found: dict[str, Any] = load_watch()
    return found


def frames(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Windows ``[n, T, channels]`` of a series ``[samples, channels]``, T means of :data:`POOLED` samples each."""
    windows = np.lib.stride_tricks.sliding_window_view(series, WINDOW, axis=0)[::HOP]
    return windows.reshape(len(windows), series.shape[1], WINDOW // POOLED, POOLED).mean(-1).swapaxes(1, 2)


def watch(*, split_seed: int = 0) -> Splits:
    """Windows of all exercises; each channel is normalized by its mean and deviation over the training part."""
    found = recordings()
    inputs: dict[str, list[NDArray[np.float64]]] = {"train": [], "validation": [], "test": []}
    labels: dict[str, list[int]] = {name: [] for name in inputs}
    for series, label, person in zip(found["X"], found["y"], found["subject"], strict=True):
        part = next((name for name, persons in PERSONS.items() if int(person) in persons), "train")
        windows = frames(series)
        inputs[part].append(windows)
        labels[part] += [int(label)] * len(windows)
    mean, deviation = (statistic(np.concatenate(inputs["train"]), axis=(0, 1)) for statistic in (np.mean, np.std))
    order = torch.Generator().manual_seed(split_seed)
    parts = {}
    for name, windows in inputs.items():
        x = torch.from_numpy((np.concatenate(windows) - mean) / deviation).float()
        shuffled = torch.randperm(len(x), generator=order)
        parts[name] = TensorDataset(x[shuffled], torch.tensor(labels[name])[shuffled])
    return Splits(
        parts["train"],
        parts["validation"],
        parts["test"],
        input_shape=(WINDOW // POOLED, len(mean)),
        classes=len(found["y_labels"]),
        frames=WINDOW // POOLED,
        class_names=tuple(map(str, found["y_labels"])),
    )
