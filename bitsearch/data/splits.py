"""Train, validation and test splits, and batches of them."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler, TensorDataset

Samples = Dataset[tuple[Tensor, ...]]


@dataclass(frozen=True)
class Splits:
    """A data set in three parts that share no sample.

    Choices are made on ``validation``; ``test`` is read once, for the plans that are shown.
    """

    train: Samples
    validation: Samples
    test: Samples
    input_shape: tuple[int, ...]
    """Of one sample, without the batch axis; event data start with their time axis, ``(frames, ...)``."""
    classes: int
    frames: int | None = None
    """Length of the time axis of event data; None for data without one."""

    def __post_init__(self) -> None:
        if self.frames is not None:
            for part in (self.train, self.validation, self.test):
                part.frames = self.frames  # type: ignore[attr-defined]  # what :func:`batches` goes by

    def split(self, name: str) -> Samples:
        """The part called ``train``, ``validation`` or ``test``."""
        part: Samples = getattr(self, name)
        return part


def batches(
    samples: Samples, batch_size: int, generator: torch.Generator | None = None
) -> Iterable[tuple[Tensor, Tensor]]:
    """Batches of (inputs ``[N, ...]``, labels ``[N]``): shuffled with ``generator``, in order without.

    Samples with an attribute ``frames`` (:attr:`Splits.frames`) have a time axis: their batches are time first,
    ``[T, N, ...]``, as spikingjelly's multi-step modules take them.

    Tensors in memory are indexed a whole batch at a time. Where the samples have a method ``augment``, which takes a
    batch's inputs and a generator, it is called on the inputs of every shuffled batch, with ``generator``.
    """
    order = SequentialSampler(samples) if generator is None else RandomSampler(samples, generator=generator)  # type: ignore[arg-type]
    if isinstance(samples, TensorDataset):
        whole = BatchSampler(order, batch_size, drop_last=False)
        found = DataLoader(samples, sampler=whole, batch_size=None)
    else:
        found = DataLoader(samples, sampler=order, batch_size=batch_size)
    augment = getattr(samples, "augment", None) if generator is not None else None
    timed = getattr(samples, "frames", None) is not None
    if augment is None and not timed:
        return found
    return (
        (_time_first(given) if timed else given, labels)
        for inputs, labels in found
        for given in [inputs if augment is None else augment(inputs, generator)]
    )


def _time_first(inputs: Tensor) -> Tensor:
    return inputs.transpose(0, 1).contiguous()
