"""The samples that a network is calibrated on: a few hundred, drawn once, in memory."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from bitsearch.data import Splits, batches
from bitsearch.data.loaders import LoadedSamples
from bitsearch.data.splits import Samples
from bitsearch.errors import InputError
from bitsearch.network_inputs import Inputs, axis_length, map_inputs, moved, narrowed, tensors_of

FEWEST = 16
"""Calibration samples below which statistics of channels say nothing."""
HELD_OUT = 4
"""Of so many samples one is held out, by which every step of a calibration is judged."""
READ_AT_ONCE = 256


class SamplesInMemory(Dataset[tuple[Inputs, Tensor]]):
    """Samples of which every tensor is whole in memory.

    Args:
        inputs: ``[N, ...]``, with a time axis ``[N, T, ...]``.
        targets: ``[N, ...]``.
    """

    def __init__(self, inputs: Inputs, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Inputs, Tensor]:
        return map_inputs(lambda x: x[index], self.inputs), self.targets[index]


def calibration_splits(splits: Splits, count: int, seed: int) -> Splits:
    """The splits with ``count`` training samples in memory in the place of all; of a loader its first ones.

    They are drawn without augmentation, and labels come along, for losses whose curvature needs them.

    Raises:
        InputError: fewer than :data:`FEWEST` are asked for, or there are fewer than are asked for.
    """
    if count < FEWEST:
        raise InputError(f"samples is {count}; calibration takes at least {FEWEST}")
    train, axis = splits.train, splits.batch_axis
    size = len(train)
    if size < count:
        raise InputError(f"samples is {count}, and there are {size} for training; give at most {size}")
    source = train.in_order() if isinstance(train, LoadedSamples) else _drawn(train, count, seed, splits.frames)
    parts, targets, missing = [], [], count
    for part, labels in batches(source, min(READ_AT_ONCE, count)):
        few = min(missing, len(labels))
        parts.append(_samples_first(part, axis, few))
        targets.append(labels[:few])
        missing -= few
        if not missing:
            break
    samples: Any = SamplesInMemory(_joined(parts), torch.cat(targets))
    return replace(splits, train=samples)


def _samples_first(inputs: Inputs, axis: int, count: int) -> Inputs:
    return map_inputs(lambda x: x.transpose(0, axis)[:count], inputs)


def _drawn(train: Samples, count: int, seed: int, frames: int | None) -> Samples:
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    drawn: Samples = Subset(train, order[:count].tolist())  # type: ignore[arg-type]  # no more than Samples is needed
    drawn.frames = frames  # type: ignore[attr-defined]  # what :func:`batches` goes by
    return drawn


def _joined(parts: list[Inputs]) -> Inputs:
    """One after the other along the first axis."""
    joined = iter([torch.cat(tensors) for tensors in zip(*map(tensors_of, parts), strict=True)])
    return map_inputs(lambda _: next(joined), parts[0])


@dataclass(frozen=True)
class CalibrationSamples:
    """Inputs on the network's device, each ``[N, ...]`` or ``[T, N, ...]``."""

    fitted: Inputs
    """What step sizes, statistics and weights are fitted to."""
    held_out: Inputs
    """What every step of a calibration is judged by."""
    batch_axis: int
    at_once: int
    """Samples that are passed through the network at once."""

    @classmethod
    def of(cls, splits: Splits, device: torch.device, at_once: int) -> "CalibrationSamples":
        """Those of :func:`calibration_splits`."""
        samples, axis = splits.train, splits.batch_axis
        assert isinstance(samples, SamplesInMemory)
        fitted = len(samples) - len(samples) // HELD_OUT

        def cut(part: slice) -> Inputs:
            return moved(map_inputs(lambda x: x[part].transpose(0, axis).contiguous(), samples.inputs), device)

        return cls(cut(slice(fitted)), cut(slice(fitted, None)), axis, at_once)

    def parts(self, inputs: Inputs) -> Iterator[Inputs]:
        """Inputs in parts of :attr:`at_once` samples."""
        size = axis_length(inputs, self.batch_axis)
        for first in range(0, size, self.at_once):
            count = min(self.at_once, size - first)
            yield narrowed(inputs, self.batch_axis, first, count)

    def drawn(self, count: int, generator: torch.Generator) -> Inputs:
        """``count`` fitted samples at random, each at most once."""
        order = torch.randperm(axis_length(self.fitted, self.batch_axis), generator=generator)[:count]
        return map_inputs(lambda x: x.index_select(self.batch_axis, order.to(x.device)), self.fitted)
