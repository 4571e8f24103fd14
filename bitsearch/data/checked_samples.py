"""Samples of a user's own data set, each checked when it is read, whatever part of a run reads it.

Tensors in memory are checked as a whole, before anything is trained.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from bitsearch.data.inputs import check_alike, check_input, dtype_name
from bitsearch.data.splits import in_memory
from bitsearch.data.targets import CLASS, Targets
from bitsearch.errors import InputError, located
from bitsearch.network_inputs import Inputs, InputShape, is_dense, map_inputs, shape_of, shape_text

_AT_ONCE = 1024
"""Samples in memory that are checked together."""


@dataclass(frozen=True)
class Requirements:
    """What every sample of a data set is to be."""

    input_shape: InputShape
    input_dtypes: Any
    """As :func:`bitsearch.network_inputs.dtypes_of` tells them."""
    classes: int
    """Labels are below it, and not below zero."""
    targets: Targets = CLASS
    target_shape: tuple[int, ...] = ()


class CheckedSamples(Dataset[tuple[Tensor, ...]]):
    """A part of a data set whose samples are checked as they are read; all else that it has is still there.

    Args:
        samples: read one by one.
        place: of the part, for messages: ``data set 'mine:make': train``.
        requirements: of every sample.
    """

    def __init__(self, samples: Any, place: str, requirements: Requirements) -> None:
        self.samples, self.place, self.requirements = samples, place, requirements

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Inputs, Any]:  # type: ignore[override]  # or several tensors
        return self._checked(read_sample(self.samples, index, self.place), index)

    def __getattr__(self, name: str) -> Any:
        # Not while a copy or a worker process is still making it.
        if name.startswith("__") or "samples" not in vars(self):
            raise AttributeError(name)
        value = getattr(self.samples, name)
        return self._augmented if name == "augmented" else value

    def _augmented(self, index: int, seed: int) -> tuple[Inputs, Any]:
        try:
            sample = self.samples.augmented(index, seed)
        except Exception as error:
            raise _unreadable(self.place, index, error) from error
        return self._checked(sample, index)

    def _checked(self, sample: Any, index: int) -> tuple[Inputs, Any]:
        inputs, target = check_sample(sample, f"{self.place} sample {index}", self.requirements)
        return map_inputs(Tensor.detach, inputs), target


def read_sample(samples: Any, index: int, place: str) -> Any:
    """A sample; InputError, which says where the user's own code failed, if it cannot be read."""
    try:
        return samples[index]
    except Exception as error:
        raise _unreadable(place, index, error) from error


def _unreadable(place: str, index: int, error: Exception) -> InputError:
    # The data set's own line needs no other.
    return (
        error
        if isinstance(error, InputError)
        else InputError(f"{place}: reading sample {index} failed at {located(error)}")
    )


def check_sample(
    sample: object, place: str, requirements: Requirements | None = None, targets: Targets = CLASS
) -> tuple[Inputs, Any]:
    """A pair (input, label); InputError, which names the ``place``, unless it can be trained on."""
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        size = f" of {len(sample)}" if isinstance(sample, tuple | list) else ""
        raise InputError(
            f"{place} is {type(sample).__name__}{size}; a sample is a pair (input, label), where several inputs are a "
            "tuple or a dict"
        )
    inputs, label = check_input(sample[0], place), sample[1]
    targets = targets if requirements is None else requirements.targets
    if targets.kind != "class":
        tensor = targets.check(label, place, None if requirements is None else requirements.classes)
        expected_shape = None if requirements is None else requirements.target_shape
        if expected_shape is not None and tuple(tensor.shape) != expected_shape:
            raise InputError(
                f"{place}: its target has shape {list(tensor.shape)}, others have {list(expected_shape)}; bring "
                "them to one"
            )
    elif not _is_label(label):
        raise InputError(
            f"{place}: its label is {_described(label)}; give the class's number as an int or an int64 tensor, or name "
            "the task that learns something else, such as regression (task.name)"
        )
    if requirements is None:
        return inputs, label
    shape, expected = shape_of(inputs), requirements.input_shape
    if shape != expected:
        raise InputError(
            f"{place} has shape {shape_text(shape)}, others have {shape_text(expected)}; bring them to one"
        )
    check_alike(inputs, requirements.input_dtypes, place)
    if targets.kind == "class" and not 0 <= int(label) < requirements.classes:
        raise InputError(f"{place}: {_wrong_label(int(label), requirements.classes)}")
    return inputs, label


def checked_samples(samples: Any, place: str, requirements: Requirements) -> Any:
    """The samples, if they are tensors in memory, which are checked here; others are checked when they are read.

    Raises:
        InputError: one in memory is not what it is to be.
    """
    source, indices = in_memory(samples)
    if source is None:
        return CheckedSamples(samples, place, requirements)
    for start, part in zip(range(0, len(indices), _AT_ONCE), indices.split(_AT_ONCE), strict=True):
        inputs, labels = source[part.tolist()]
        good = inputs.flatten(1).isfinite().all(1) & _good_targets(labels, requirements)
        if not bool(good.all()):
            worst = int((~good).nonzero()[0])
            check_sample((inputs[worst], labels[worst]), f"{place} sample {start + worst}", requirements)
    return samples


def _good_targets(targets: Tensor, requirements: Requirements) -> Tensor:
    """Bool ``[N]``; what is suspect is looked at one by one."""
    if requirements.targets.kind in ("class", "classes"):
        inside = (targets >= 0) & (targets < requirements.classes)
        if requirements.targets.kind == "classes":
            inside |= targets == requirements.targets.ignored
    elif requirements.targets.kind == "flags":
        inside = (targets == 0) | (targets == 1)
    else:
        inside = targets.isfinite()
    return inside.flatten(1).all(1) if inside.dim() > 1 else inside


def without_graph(samples: Any) -> Any:
    """The samples themselves, or if their tensors in memory require a gradient, a copy with tensors that do not."""
    if isinstance(samples, TensorDataset) and any(tensor.requires_grad for tensor in samples.tensors):
        detached: Any = copy.copy(samples)
        detached.tensors = tuple(tensor.detach() for tensor in samples.tensors)
        return detached
    if isinstance(samples, Subset) and (source := without_graph(samples.dataset)) is not samples.dataset:
        subset = copy.copy(samples)
        subset.dataset = source
        return subset
    return samples


def _wrong_label(label: int, classes: int) -> str:
    if label < 0:
        return f"its label is {label}; number the classes from 0"
    return f"its label is {label}, but there are {classes} classes, numbered from 0"


def _is_label(label: object) -> bool:
    """True if a batch of such labels is an ``int64`` tensor ``[N]``."""
    try:
        tensor = torch.as_tensor(label)
    except (TypeError, ValueError, RuntimeError):
        return False
    return tensor.dtype == torch.int64 and is_dense(tensor) and not tensor.is_meta and tensor.dim() == 0


def _described(label: object) -> str:
    if not isinstance(label, Tensor):
        return repr(label)
    if not is_dense(label) or label.is_meta:
        return "a meta tensor" if label.is_meta else "no dense tensor"
    return f"a {dtype_name(label)} tensor of shape {tuple(label.shape)}"
