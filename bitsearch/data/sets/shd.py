"""Spiking Heidelberg Digits (Cramer et al. 2020): spoken digits as spikes of 700 channels of a model of the ear."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bitsearch.data.data_set import DataSet
from bitsearch.data.event_frames import count_events, frame_samples
from bitsearch.data.options import check_options, find_root
from bitsearch.data.splits import Splits
from bitsearch.data.stratified import Part, stratified
from bitsearch.errors import InputError

if TYPE_CHECKING:
    import h5py

CHANNELS = 700
CLASSES = 20


def shd(
    *,
    split_seed: int = 0,
    root: str = "",
    frames: int = 10,
    split_by: str = "time",
    validation_share: float = 0.1,
    limit: int | None = None,
) -> Splits:
    """Spikes of each channel counted in frames ``[T, 700]``; the published test recordings are the test split.

    The published files are read directly. SpikingJelly would make the same frames, but by time it fails at a recording
    with a silent frame.

    Args:
        split_seed: fixes which recordings are held back, and which a ``limit`` keeps.
        root: the folder of the two files.
        frames: T, time bins.
        split_by: the frames of a recording have equal numbers of spikes (``number``) or equal durations (``time``).
        validation_share: share of every class of the training recordings that is held back for validation.
        limit: at most this many recordings a class of the training part (validation included) and of the test part.

    Raises:
        InputError: an option of the wrong kind, files that are missing, or a file of another kind.
    """
    check_options("shd", frames=frames, split_by=split_by, validation_share=validation_share, limit=limit)
    folder = find_root(SHD, root, ", ".join(SHD.files))
    train, test = (_Recordings(folder / name, folder) for name in SHD.files)
    split_indices = stratified(
        "shd",
        train.part,
        test.part,
        [str(label) for label in range(CLASSES)],
        split_seed=split_seed,
        validation_share=validation_share,
        limit=limit,
    )
    parts = {
        split: frame_samples(
            partial(source.frames, frames=frames, split_by=split_by),
            split_indices[split].tolist(),
            torch.from_numpy(source.part.labels[split_indices[split]]),
            shape=(frames, CHANNELS),
            integer_counts=True,
        )
        for split, source in (("train", train), ("validation", train), ("test", test))
    }
    return Splits(
        parts["train"],
        parts["validation"],
        parts["test"],
        input_shape=(frames, CHANNELS),
        classes=CLASSES,
        frames=frames,
    )


class _Recordings:
    """One of the two files: ``labels`` ``[N]``, ``spikes/times`` in seconds and ``spikes/units``, N lists each."""

    def __init__(self, path: Path, root: Path) -> None:
        if not path.is_file():
            raise SHD.missing_file_error(path, root)
        self.path = path
        try:
            with _open(path) as file:
                self.part = Part(str(path), file["labels"][:].astype(np.int64))
                lengths = {len(file["spikes"][name]) for name in ("times", "units")}
        except (OSError, KeyError, AttributeError) as error:
            raise InputError(
                f"shd: {str(path)!r} is no file of spikes ({' '.join(str(error).split())}); unpack it anew"
            ) from error
        if lengths != {len(self.part.labels)}:
            raise InputError(f"shd: {str(path)!r} has no list of spikes for each label; unpack it anew")
        if not np.isin(self.part.labels, range(CLASSES)).all():
            raise InputError(f"shd: {str(path)!r} has labels that are not from 0 to {CLASSES - 1}; unpack it anew")

    def frames(self, index: int, *, frames: int, split_by: str) -> np.ndarray:
        """Spike counts ``[T, 700]`` of a recording."""
        try:
            with _open(self.path) as file:
                times, units = (file["spikes"][name][index] for name in ("times", "units"))
            return count_events(times, units, frames, split_by, (CHANNELS,))
        except (OSError, ValueError) as error:
            raise InputError(
                f"shd: cannot read recording {index} of {self.part.source!r} ({error}); unpack it anew"
            ) from error


def _open(path: Path) -> "h5py.File":
    # Imported where it is needed: it takes half a second that no other data set has to spend.
    import h5py

    return h5py.File(path, "r")


SHD = DataSet(
    "shd",
    shd,
    "spoken digits as spikes of 700 channels",
    shape="T×700",
    classes=CLASSES,
    counts={"train": 8156, "test": 2264},
    download="shd_train.h5.zip and shd_test.h5.zip",
    source="https://zenkelab.org/datasets/",
    files={"shd_train.h5": "", "shd_test.h5": ""},
)
