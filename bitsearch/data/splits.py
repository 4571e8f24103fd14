"""Train, validation and test splits, and batches of them."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
)

from bitsearch.data.loaders import LoadedSamples
from bitsearch.data.targets import absent
from bitsearch.errors import InputError
from bitsearch.network_inputs import Inputs, InputShape, as_inputs, map_inputs, narrowed


class Samples(Protocol):
    """A data set that has an end: what a list of samples has in common with torch's data sets."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, ...]: ...


@dataclass(frozen=True)
class Splits:
    """A data set in three parts that share no sample.

    Choices are made on ``validation``; ``test`` is read once, for the plans that are reported.

    >>> from torch.utils.data import TensorDataset
    >>> samples = TensorDataset(torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    >>> splits = bitsearch.Splits(samples, samples, samples, input_shape=(1, 8, 8), classes=2)
    >>> splits.batch_axis, len(splits.split("test"))
    (0, 4)
    """

    train: Samples
    validation: Samples
    test: Samples | None
    """None where there is none: then what is reported is what plans were chosen by."""
    input_shape: InputShape
    """Shape of one input, without the batch axis; that of event data starts with the time axis, ``(frames, ...)``.

    Of several inputs, which a sample holds in a tuple or a dict, a tuple or a dict of their shapes.
    """
    classes: int
    frames: int | None = None
    """Length of the time axis of event data; None for data without one."""
    class_names: tuple[str, ...] | None = None
    """By label; None where classes have numbers only."""
    mean: tuple[float, ...] | None = None
    """By channel, of what the data hold, such as pixels from 0 to 255: an input is (x − mean) / deviation. None where
    nothing is known of that."""
    deviation: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.frames is not None:
            for part in (self.train, self.validation, self.test):
                if part is not None:
                    part.frames = self.frames  # type: ignore[attr-defined]  # what :func:`batches` goes by

    @property
    def batch_axis(self) -> int:
        """The samples' axis in a batch's inputs."""
        return 0 if self.frames is None else 1

    @property
    def last_read(self) -> Samples:
        """The part that had the least to do with the plans: test, or validation where there is none."""
        return self.validation if self.test is None else self.test

    @property
    def sizes(self) -> dict[str, int]:
        """Samples of every part that there is."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: len(part) for name, part in parts.items() if part is not None}

    def examples(self, count: int) -> tuple[Inputs, Tensor]:
        """The first training samples, at most ``count``: inputs ``[N, ...]`` or ``[T, N, ...]``, labels ``[N]``."""
        inputs, labels = next(iter(batches(self.train, count)))
        few = min(count, len(labels))
        return narrowed(inputs, self.batch_axis, 0, few), labels[:count]

    def split(self, name: str) -> Samples:
        """The part called ``train``, ``validation`` or ``test``; InputError if there is no such part."""
        part: Samples | None = getattr(self, name)
        if part is None:
            raise InputError(f"there is no {name} split; there are: {', '.join(self.sizes)}")
        return part


def batches(
    samples: Samples,
    batch_size: int,
    generator: torch.Generator | None = None,
    *,
    share: tuple[int, int] = (0, 1),
) -> Iterable[tuple[Inputs, Tensor]]:
    """Batches of (inputs ``[N, ...]``, labels ``[N]``): shuffled with ``generator``, in order without.

    Several inputs of a sample, in a tuple or a dict, are several of the batch.

    Samples with an attribute ``frames`` (:attr:`Splits.frames`) have a time axis: their batches are time first,
    ``[T, N, ...]``, as spikingjelly's multi-step modules take them.

    Tensors in memory are indexed a whole batch at a time. Where the samples have a method ``augment``, which takes a
    batch's inputs and a generator, it is called on the inputs of every shuffled batch, with ``generator``. Where they
    have a method ``augmented``, which takes an index and a seed, shuffled batches are made of what it returns; and an
    attribute ``workers`` is the number of processes that read them.

    Samples that a user's loader gives have its batches, whatever ``batch_size`` is.

    ``share`` (k, n) gives the k-th (from 0) of n equal shares of every batch, to n processes whose generators are
    alike. Where a last batch has fewer samples than that, the others get its first one, with targets that count
    nothing.

    >>> splits = bitsearch.load_data("digits", {}, split_seed=0)
    >>> inputs, labels = next(iter(bitsearch.batches(splits.train, 64, torch.Generator().manual_seed(0))))
    >>> inputs.shape, labels.shape
    (torch.Size([64, 1, 8, 8]), torch.Size([64]))
    """
    if isinstance(samples, LoadedSamples):
        return samples.batches(generator)
    order = SequentialSampler(samples) if generator is None else RandomSampler(samples, generator=generator)
    sampler: Sampler[list[int]] = BatchSampler(order, batch_size, drop_last=False)
    if share != (0, 1):
        sampler = _Share(sampler, *share)
    if isinstance(samples, TensorDataset):
        loader = DataLoader(samples, sampler=sampler, batch_size=None)
    else:
        if generator is not None and hasattr(samples, "augmented"):
            samples = _Augmented(samples, generator)
        workers = getattr(samples, "workers", 0)
        dataset: Any = samples
        loader = DataLoader(dataset, batch_sampler=sampler, num_workers=workers, collate_fn=_collated)
    augment = getattr(samples, "augment", None) if generator is not None else None
    has_time_axis = getattr(samples, "frames", None) is not None
    if augment is None and not has_time_axis and share == (0, 1) and not loader.num_workers:
        return loader
    share_number, share_count = share
    last_batch_size = (len(samples) - 1) % batch_size + 1

    def prepare() -> Iterator[tuple[Inputs, Tensor]]:
        for index, (inputs, labels) in enumerate(_with_one_line_errors(loader), start=1):
            if augment is not None:
                # Shares differ in size: random numbers from the shared generator would give processes other orders.
                augment_generator = generator if share_count == 1 else _share_generator(generator, share_number)
                inputs = augment(inputs, augment_generator)
            if index == len(loader) and share_number >= last_batch_size:
                labels = absent(labels)
            yield _time_first(inputs) if has_time_axis else inputs, labels

    return prepare()


class _Share(Sampler[list[int]]):
    """Share ``number`` of the ``count`` shares of every batch of indices; no share is empty."""

    def __init__(self, batches: Sampler[list[int]], number: int, count: int) -> None:
        self.batches, self.number, self.count = batches, number, count

    def __iter__(self) -> Iterator[list[int]]:
        return (batch[self.number :: self.count] or batch[:1] for batch in self.batches)

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]  # batches have a length


def _share_generator(generator: torch.Generator | None, number: int) -> torch.Generator:
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.Generator().manual_seed(seed + number)


def batch_count(samples: Samples, batch_size: int) -> int:
    """How many batches :func:`batches` gives."""
    if isinstance(samples, LoadedSamples):
        return samples.batch_count
    return math.ceil(len(samples) / batch_size)


def labels_of(samples: Samples) -> Tensor:
    """Labels ``[N]`` of all samples, from their last tensor or their attribute ``labels``, or else sample by sample."""
    if isinstance(samples, TensorDataset):
        return samples.tensors[-1]
    labels = getattr(samples, "labels", None)
    if labels is None:
        labels = [int(samples[index][1]) for index in range(len(samples))]
    return torch.as_tensor(labels)


def in_memory(samples: Any) -> tuple[Any, Tensor]:
    """(tensors in memory, which are indexed by lists, and the indices that belong to the samples), or (None, none)."""
    if isinstance(samples, TensorDataset):
        return samples, torch.arange(len(samples))
    if isinstance(samples, Subset):
        source, indices = in_memory(samples.dataset)
        return source, indices if source is None else indices[torch.as_tensor(samples.indices, dtype=torch.long)]
    return None, torch.empty(0)


class _Augmented(Dataset[tuple[Tensor, ...]]):
    """Samples augmented for one pass; seeds from the generator make them the same in whichever process reads them."""

    def __init__(self, samples: Any, generator: torch.Generator) -> None:
        self.samples, self.workers = samples, getattr(samples, "workers", 0)
        self.frames = getattr(samples, "frames", None)
        self.seed = int(torch.randint(2**62, (), generator=generator))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        sample: tuple[Tensor, ...] = self.samples.augmented(index, self.seed + index)
        return sample


def _collated(samples: list[Any]) -> tuple[Inputs, Tensor]:
    """As torch makes a batch; several inputs are a tuple again."""
    inputs, labels = default_collate(samples)
    return as_inputs(inputs), labels


def _with_one_line_errors(loader: Iterable[tuple[Inputs, Tensor]]) -> Iterator[tuple[Inputs, Tensor]]:
    try:
        yield from loader
    except InputError as error:
        # The message of an error from a worker process holds the worker's whole traceback.
        line = str(error).strip().splitlines()[-1]
        raise InputError(line.removeprefix(f"{InputError.__module__}.{InputError.__qualname__}: ")) from error


def _time_first(inputs: Inputs) -> Inputs:
    return map_inputs(lambda x: x.transpose(0, 1).contiguous(), inputs)
