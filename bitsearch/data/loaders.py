"""Batches of a user's own loader, used as they come: its collate function, workers, sampler and augmentation."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler

from bitsearch.data.inputs import check_alike, check_input
from bitsearch.data.targets import CLASS, Targets
from bitsearch.errors import InputError, located
from bitsearch.network_inputs import Inputs, InputShape, dtypes_of, map_inputs, shape_of, shape_text, tensors_of


class LoadedSamples(Dataset[tuple[Tensor, ...]]):
    """A part of the data, as its loader gives it: one pass over the loader is one pass over the samples.

    Args:
        loader: a DataLoader, or anything else that gives the batches (inputs, labels ``[N]``) anew at every ``iter``;
            several inputs are a tuple or a dict of tensors.
        place: of the part, for messages: ``train``.
        time_axis: of the batches' inputs, 0 or 1, where they have frames; networks get them time first.
        targets: what those of the samples are to be.

    Attributes:
        input_shape: of one input, its time axis first.
        frames: length of the time axis; None without one.
        batch_count: batches a pass.
        batch_size: samples of the first batch.

    Raises:
        InputError: no batches, or some that cannot be trained on; the message names the part and the batch.
    """

    def __init__(self, loader: Any, place: str, *, time_axis: int | None = None, targets: Targets = CLASS) -> None:
        if iter(loader) is loader:
            raise InputError(
                f"{place} is a {type(loader).__name__}, which can be read once; give what can be read anew"
            )
        self.loader, self.place, self.time_axis, self.targets = loader, place, time_axis, targets
        self.sample_axis = 1 if time_axis == 0 else 0
        self.classes: int | None = None
        self.input_shape: InputShape | None = None
        self.input_dtypes: Any = None
        inputs, labels = next(iter(self.batches()))
        self.batch_size = len(labels)
        self.input_shape = shape_of(inputs, without=0 if time_axis is None else 1)
        self.input_dtypes = dtypes_of(inputs)
        self.frames = None if time_axis is None else tensors_of(inputs)[0].shape[0]
        self.samples: int | None = None
        size = _size(loader)
        if size is None:
            sizes = [len(labels) for _, labels in self.batches()]
            size = sum(sizes), len(sizes)
        self.samples, self.batch_count = size

    def __len__(self) -> int:
        assert self.samples is not None
        return self.samples

    def in_order(self) -> "LoadedSamples":
        """The same samples, always in one order, in which what several networks get right can be compared."""
        loader = self.loader
        if not isinstance(loader, DataLoader) or not isinstance(loader.sampler, RandomSampler):
            return self
        ordered: DataLoader[Any] = DataLoader(
            loader.dataset,
            batch_size=loader.batch_size,
            collate_fn=loader.collate_fn,
            num_workers=loader.num_workers,
            worker_init_fn=loader.worker_init_fn,
        )
        return LoadedSamples(ordered, self.place, time_axis=self.time_axis, targets=self.targets)

    def batches(self, generator: torch.Generator | None = None) -> Iterator[tuple[Inputs, Tensor]]:
        """One pass, checked: inputs ``[N, ...]`` or ``[T, N, ...]`` and labels ``[N]``.

        What the loader draws from torch's global generator, or its sampler from one of its own, is seeded by
        ``generator``, so that a run that goes on reads what an undisturbed one does.

        Raises:
            InputError: reading fails in the user's code, a batch cannot be trained on, or a pass ends early.
        """
        seed = 0 if generator is None else int(torch.randint(2**62, (), generator=generator))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for drawing in (self.loader, getattr(self.loader, "sampler", None)):
                source = getattr(drawing, "generator", None)
                if source is not None:
                    source.manual_seed(seed)
            batches = self._read()
            first = next(batches, None)
        if first is None:
            raise InputError(f"{self.place} gives no batch; {_more(self.loader)}")
        yield first
        count = len(first[1])
        for inputs, labels in batches:
            count += len(labels)
            yield inputs, labels
        expected = self.__dict__.get("samples")
        if expected is not None and count != expected:
            raise InputError(
                f"{self.place} gave {count:,} samples in one pass and has {expected:,}; give a loader whose passes "
                "are equally long"
            )

    def _read(self) -> Iterator[tuple[Inputs, Tensor]]:
        batches, index = iter(self.loader), 0
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except InputError:
                raise
            except Exception as error:
                raise InputError(f"{self.place}: reading batch {index} failed at {located(error)}") from error
            yield self._checked(batch, f"{self.place} batch {index}")
            index += 1

    def _checked(self, batch: object, place: str) -> tuple[Inputs, Tensor]:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            size = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
            raise InputError(
                f"{place} is {type(batch).__name__}{size}; a batch is a pair (inputs, labels), where several inputs "
                "are a tuple or a dict"
            )
        inputs, labels = check_input(batch[0], place), batch[1]
        if self.targets.kind != "class":
            labels = self.targets.check_batch(labels, place, self.classes)
        elif not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.dim() != 1:
            kind = type(labels).__name__
            text = f"{labels.dtype} {list(labels.shape)}" if isinstance(labels, Tensor) else kind
            raise InputError(f"{place}: its labels are {text}; give the classes' numbers as an int64 tensor [N]")
        least = 2 if self.time_axis is not None else 1
        if any(x.dim() < least or x.shape[self.sample_axis] != len(labels) for x in tensors_of(inputs)):
            raise InputError(
                f"{place}: inputs {shape_text(shape_of(inputs))} and {len(labels)} labels; the samples are to be axis "
                f"{self.sample_axis} of the inputs"
            )
        if len(labels) == 0:
            raise InputError(f"{place} is empty; give batches of at least one sample")
        inputs = map_inputs(Tensor.detach, inputs)
        if self.time_axis == 1:
            inputs = map_inputs(lambda x: x.transpose(0, 1).contiguous(), inputs)
        shape = shape_of(inputs, without=0 if self.time_axis is None else 1)
        if self.input_shape is not None and shape != self.input_shape:
            raise InputError(
                f"{place} has inputs of shape {shape_text(shape)}, others have {shape_text(self.input_shape)}; bring "
                "them to one"
            )
        if self.input_dtypes is not None:
            check_alike(inputs, self.input_dtypes, place)
        if self.time_axis is not None and len({len(x) for x in tensors_of(inputs)}) > 1:
            raise InputError(f"{place} has inputs of shape {shape_text(shape)}; all must have the same frames")
        if self.targets.kind != "class":
            return inputs, labels
        if int(labels.min()) < 0:
            raise InputError(f"{place} has the label {int(labels.min())}; number the classes from 0")
        if self.classes is not None and int(labels.max()) >= self.classes:
            raise InputError(
                f"{place} has the label {int(labels.max())}; the network has {self.classes} outputs, numbered from 0"
            )
        return inputs, labels


def _more(loader: Any) -> str:
    """What to do about a loader without batches."""
    if isinstance(loader, DataLoader) and loader.drop_last and _size(loader) == (0, 0):
        return f"its drop_last leaves out the only one, of fewer samples than {loader.batch_size}; give smaller batches"
    return "give at least one sample"


def _size(loader: Iterable[Any]) -> tuple[int, int] | None:
    """(samples, batches) of a pass, where the loader's own parts tell; None where they have to be counted."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset) or loader.batch_size is None:
        return None
    if type(loader.batch_sampler) is not BatchSampler:
        return None
    samples: int = len(loader.sampler)  # type: ignore[arg-type]  # that of a BatchSampler of torch's own
    batches = len(loader)
    return (batches * loader.batch_size if loader.drop_last else samples), batches
