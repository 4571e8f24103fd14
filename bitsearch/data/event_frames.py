"""Events counted into frames, and samples of such frames."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from bitsearch.data.splits import Samples

MAX_BYTES_IN_MEMORY = 2 * 1024**3
"""The frames of a split that need more bytes are read from the disk for every batch."""
ROLL_PIXELS = 5
"""Largest shift of frames, each way, in pixels."""

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def count_events(
    times: np.ndarray, addresses: np.ndarray, frames: int, split_by: str, shape: tuple[int, ...]
) -> np.ndarray:
    """Count the events of one recording by frame and address.

    Args:
        times: of the events ``[E]``, in any unit.
        addresses: of the events ``[E]``, their index in a flattened frame.
        frames: their number, T.
        split_by: ``number``: every frame takes ⌊E/T⌋ events in their order, and the last one the remainder as well.
            ``time``: every frame lasts a T-th of the time from the first event to the last.
        shape: of a frame.

    Returns:
        ``int64`` ``[T, *shape]``.

    Raises:
        ValueError: an address outside the frame.
    """
    frame_size = math.prod(shape)
    addresses = addresses.astype(np.int64)
    if len(addresses) and (addresses.min() < 0 or addresses.max() >= frame_size):
        raise ValueError(f"an event lies outside the frame of {' × '.join(map(str, shape))}")
    if split_by == "number":
        bins = np.arange(len(times)) // max(1, len(times) // frames)
    else:
        elapsed = times.astype(np.float64)
        elapsed -= elapsed.min(initial=np.inf)
        duration = elapsed.max(initial=0)
        bins = (elapsed * frames / (duration or 1)).astype(np.int64)
    counts = np.bincount(np.minimum(bins, frames - 1) * frame_size + addresses, minlength=frames * frame_size)
    return counts.reshape(frames, *shape)


class EventFrames(TensorDataset):
    """Frames in memory, in a small format, which are converted to ``float32`` when they are read.

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
    """Frames that are read from the disk one recording at a time, when they are indexed.

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
    integer_counts: bool,
    augment: Augmentation | None = None,
) -> Samples:
    """Frames of recordings: in memory up to :data:`MAX_BYTES_IN_MEMORY` bytes, or else read when they are indexed.

    Args:
        read: from a recording to its event counts ``[T, ...]``.
        recordings: what ``read`` takes.
        labels: ``[N]``.
        shape: of the frames of one recording, ``(T, ...)``.
        integer_counts: True if all counts are whole numbers; they are stored in one byte each if they are below 256,
            and in half precision otherwise, which has every whole number up to 2048.
        augment: for shuffled batches.
    """
    dtype = torch.uint8 if integer_counts else torch.float16
    if len(recordings) * math.prod(shape) * dtype.itemsize > MAX_BYTES_IN_MEMORY:
        return StoredFrames(read, recordings, labels, augment)
    frames = torch.empty(len(recordings), *shape, dtype=dtype)
    for index, recording in enumerate(recordings):
        counts = torch.from_numpy(read(recording))
        if frames.dtype == torch.uint8 and counts.max() > 255:
            frames = frames.half()
        frames[index] = counts
    return EventFrames(frames, labels, augment)


def flip_and_roll(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Every recording of ``[N, T, C, H, W]`` mirrored or not, and rolled by up to :data:`ROLL` pixels each way.

    All frames of a recording move alike. The usual augmentation of CIFAR10-DVS (Deng et al. 2022, arXiv 2202.11946).
    """
    count, *_, height, width = inputs.shape
    row_shifts, column_shifts = torch.randint(-ROLL_PIXELS, ROLL_PIXELS + 1, (2, count, 1), generator=generator)
    is_mirrored = torch.randint(2, (count, 1), generator=generator).bool()
    rows = (torch.arange(height) - row_shifts) % height
    columns = (torch.arange(width) - column_shifts) % width
    columns = torch.where(is_mirrored, width - 1 - columns, columns)
    # Indices of different axes are broadcast: [N, 1, 1], [N, H, 1] and [N, 1, W] give [N, H, W, T, C].
    rolled = inputs.permute(0, 3, 4, 1, 2)[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return rolled.permute(0, 3, 4, 1, 2).contiguous()
