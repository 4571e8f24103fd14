"""Events counted into frames, and samples of such frames."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from bitsearch.data.splits import Samples

IN_MEMORY = 2 * 1024**3
"""Bytes; the frames of a split that take more are read whenever they are needed."""
ROLL = 5
"""Pixels; frames are shifted by up to this many each way."""

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def count_events(
    times: np.ndarray, addresses: np.ndarray, frames: int, split_by: str, shape: tuple[int, ...]
) -> np.ndarray:
    """How many events of one recording fall on each place in each frame.

    Args:
        times: of the events ``[E]``, in any unit.
        addresses: of the events ``[E]``, their index in a flattened frame.
        frames: their number, T.
        split_by: ``number``: every frame takes ⌊E/T⌋ events in the order given, the last one the rest as well.
            ``time``: every frame lasts a T-th of the time from the first event to the last one.
        shape: of a frame.

    Returns:
        ``int64`` ``[T, *shape]``.

    Raises:
        ValueError: an address outside the frame.
    """
    places = math.prod(shape)
    addresses = addresses.astype(np.int64)
    if len(addresses) and (addresses.min() < 0 or addresses.max() >= places):
        raise ValueError(f"an event lies outside the frame of {' × '.join(map(str, shape))}")
    if split_by == "number":
        bins = np.arange(len(times)) // max(1, len(times) // frames)
    else:
        since = times.astype(np.float64)
        since -= since.min(initial=np.inf)
        lasts = since.max(initial=0)
        bins = (since * frames / (lasts or 1)).astype(np.int64)
    counts = np.bincount(np.minimum(bins, frames - 1) * places + addresses, minlength=frames * places)
    return counts.reshape(frames, *shape)


class EventFrames(TensorDataset):
    """Frames in memory, in a small format; ``float32`` when they are read.

    Args:
        frames: event counts ``[N, T, ...]``.
        labels: ``[N]``.
        augment: for shuffled batches.
    """

    def __init__(self, frames: Tensor, labels: Tensor, augment: Augmentation | None = None) -> None:
        super().__init__(frames, labels)
        self.augment = augment

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        """(``float32`` frames ``[..., T, ...]``, labels) of an index, a slice or a list of indices."""
        frames, labels = super().__getitem__(index)
        return frames.float(), labels


class StoredFrames(Dataset[tuple[Tensor, ...]]):
    """Frames that are read from the disk one recording at a time, whenever they are asked for.

    Args:
        read: from a recording to its event counts ``[T, ...]``.
        recordings: what ``read`` takes.
        labels: ``[N]``.
        augment: for shuffled batches.
    """

    def __init__(
        self,
        read: Callable[[Any], np.ndarray],
        recordings: Sequence[Any],
        labels: Tensor,
        augment: Augmentation | None = None,
    ) -> None:
        self.read, self.recordings, self.labels, self.augment = read, recordings, labels, augment

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """(``float32`` frames ``[T, ...]``, label)."""
        return torch.from_numpy(self.read(self.recordings[index])).float(), self.labels[index]


def frame_samples(
    read: Callable[[Any], np.ndarray],
    recordings: Sequence[Any],
    labels: Tensor,
    *,
    shape: tuple[int, ...],
    whole: bool,
    augment: Augmentation | None = None,
) -> Samples:
    """Frames of some recordings: in memory up to :data:`IN_MEMORY` bytes, else read whenever they are needed.

    Args:
        read: from a recording to its event counts ``[T, ...]``.
        recordings: what ``read`` takes.
        labels: ``[N]``.
        shape: of the frames of one recording, ``(T, ...)``.
        whole: whether the counts are whole numbers: they are then kept in one byte each where they are below 256,
            and in half precision otherwise, which has every whole number up to 2048.
        augment: for shuffled batches.
    """
    kind = torch.uint8 if whole else torch.float16
    if len(recordings) * math.prod(shape) * kind.itemsize > IN_MEMORY:
        return StoredFrames(read, recordings, labels, augment)
    kept = torch.empty(len(recordings), *shape, dtype=kind)
    for index, recording in enumerate(recordings):
        counts = torch.from_numpy(read(recording))
        if kept.dtype == torch.uint8 and counts.max() > 255:
            kept = kept.half()
        kept[index] = counts
    return EventFrames(kept, labels, augment)


def flip_and_roll(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Every recording of ``[N, T, C, H, W]`` mirrored or not, and rolled by up to :data:`ROLL` pixels each way.

    All frames of a recording move alike. The usual augmentation of CIFAR10-DVS (Deng et al. 2022, arXiv 2202.11946).
    """
    count, *_, height, width = inputs.shape
    down, right = torch.randint(-ROLL, ROLL + 1, (2, count, 1), generator=generator)
    mirrored = torch.randint(2, (count, 1), generator=generator).bool()
    rows = (torch.arange(height) - down) % height
    columns = (torch.arange(width) - right) % width
    columns = torch.where(mirrored, width - 1 - columns, columns)
    # Indices of different axes are broadcast: [N, 1, 1], [N, H, 1] and [N, 1, W] give [N, H, W, T, C].
    moved = inputs.permute(0, 3, 4, 1, 2)[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 4, 1, 2).contiguous()
