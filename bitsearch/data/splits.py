"""Train, validation and test splits, and batches of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler, SequentialSampler, TensorDataset

from bitsearch.errors import InputError

Samples = Dataset[tuple[Tensor, ...]]

NO_LABEL = -100
"""What :func:`torch.nn.functional.cross_entropy` leaves out."""


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

    @property
    def batch_axis(self) -> int:
        """The samples' axis in a batch's inputs."""
        return 0 if self.frames is None else 1

    def split(self, name: str) -> Samples:
        """The part called ``train``, ``validation`` or ``test``."""
        part: Samples = getattr(self, name)
        return part


def batches(
    samples: Samples,
    batch_size: int,
    generator: torch.Generator | None = None,
    *,
    share: tuple[int, int] = (0, 1),
) -> Iterable[tuple[Tensor, Tensor]]:
    """Batches of (inputs ``[N, ...]``, labels ``[N]``): shuffled with ``generator``, in order without.

    Samples with an attribute ``frames`` (:attr:`Splits.frames`) have a time axis: their batches are time first,
    ``[T, N, ...]``, as spikingjelly's multi-step modules take them.

    Tensors in memory are indexed a whole batch at a time. Where the samples have a method ``augment``, which takes a
    batch's inputs and a generator, it is called on the inputs of every shuffled batch, with ``generator``. Where they
    have a method ``augmented``, which takes an index and a seed, shuffled batches are made of what it returns; and an
    attribute ``workers`` is the number of processes that read them.

    ``share`` (k, n) gives the k-th (from 0) of n equal shares of every batch, to n processes whose generators are
    alike. Where a last batch has fewer samples than that, the others get its first one, labelled :data:`NO_LABEL`.

    >>> splits = bitsearch.load_data("digits", {}, split_seed=0)
    >>> inputs, labels = next(iter(bitsearch.batches(splits.train, 64, torch.Generator().manual_seed(0))))
    >>> inputs.shape, labels.shape
    (torch.Size([64, 1, 8, 8]), torch.Size([64]))
    """
    order = SequentialSampler(samples) if generator is None else RandomSampler(samples, generator=generator)  # type: ignore[arg-type]
    whole: Sampler[list[int]] = BatchSampler(order, batch_size, drop_last=False)
    if share != (0, 1):
        whole = _Share(whole, *share)
    if isinstance(samples, TensorDataset):
        found = DataLoader(samples, sampler=whole, batch_size=None)
    else:
        if generator is not None and hasattr(samples, "augmented"):
            samples = _Augmented(samples, generator)
        found = DataLoader(samples, batch_sampler=whole, num_workers=getattr(samples, "workers", 0))
    augment = getattr(samples, "augment", None) if generator is not None else None
    timed = getattr(samples, "frames", None) is not None
    if augment is None and not timed and share == (0, 1) and not found.num_workers:
        return found
    number, count = share
    last = (len(samples) - 1) % batch_size + 1  # type: ignore[arg-type]

    def prepared() -> Iterator[tuple[Tensor, Tensor]]:
        for index, (inputs, labels) in enumerate(_in_one_line(found), start=1):
            if augment is not None:
                # Shares differ in size: drawing from the common generator would set the processes' orders apart.
                own = generator if count == 1 else _own_generator(generator, number)
                inputs = augment(inputs, own)
            if index == len(found) and number >= last:
                labels = torch.full_like(labels, NO_LABEL)
            yield _time_first(inputs) if timed else inputs, labels

    return prepared()


class _Share(Sampler[list[int]]):
    """One of ``count`` shares of every batch of indices; no share is empty."""

    def __init__(self, whole: Sampler[list[int]], number: int, count: int) -> None:
        self.whole, self.number, self.count = whole, number, count

    def __iter__(self) -> Iterator[list[int]]:
        return (batch[self.number :: self.count] or batch[:1] for batch in self.whole)

    def __len__(self) -> int:
        return len(self.whole)  # type: ignore[arg-type]


def _own_generator(common: torch.Generator | None, number: int) -> torch.Generator:
    drawn = int(torch.randint(2**62, (), generator=common))
    return torch.Generator().manual_seed(drawn + number)


def labels_of(samples: Samples) -> Tensor:
    """Labels ``[N]`` of all samples: their last tensor, or attribute ``labels``, or else every sample is read."""
    if isinstance(samples, TensorDataset):
        return samples.tensors[-1]
    found = getattr(samples, "labels", None)
    if found is None:
        found = [int(samples[index][1]) for index in range(len(samples))]  # type: ignore[arg-type]
    return torch.as_tensor(found)


class _Augmented(Dataset[tuple[Tensor, ...]]):
    """One pass over samples that are changed at random: the generator decides how, whichever process reads them."""

    def __init__(self, samples: Any, generator: torch.Generator) -> None:
        self.samples, self.workers = samples, getattr(samples, "workers", 0)
        self.frames = getattr(samples, "frames", None)
        self.seed = int(torch.randint(2**62, (), generator=generator))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self.samples.augmented(index, self.seed + index)
        return found


def _in_one_line(found: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    try:
        yield from found
    except InputError as error:
        # One that comes from another process has that one's whole traceback in its message.
        line = str(error).strip().splitlines()[-1]
        raise InputError(line.removeprefix(f"{InputError.__module__}.{InputError.__qualname__}: ")) from error


def _time_first(inputs: Tensor) -> Tensor:
    return inputs.transpose(0, 1).contiguous()
