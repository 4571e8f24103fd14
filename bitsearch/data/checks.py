"""What a data factory returned: made into splits where it is none yet, and checked before anything is trained on it."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from bitsearch.data.splits import Samples, Splits
from bitsearch.errors import InputError, located

CHECKED = 32
"""Samples of every part that are read and looked at."""
PARTS = ("train", "validation", "test")


def checked_splits(returned: object, name: str) -> Splits:
    """The splits in what a factory returned, checked.

    Looked at are the first :data:`CHECKED` samples of every part: ``float32`` inputs without NaN and infinities, all of
    one shape, and ``int64`` labels; and all labels, where a part keeps them as tensors or as ``targets``.

    Args:
        returned: :class:`Splits`; or (train, validation, test), or a mapping with these keys. Then the shape is the
            first training sample's, and classes are counted from 0 to the largest training label; a data set that
            keeps no labels beside its samples is read once for that.
        name: of the factory, for the message.

    Raises:
        InputError: it is something else, or a check fails; says which sample.
    """
    label = f"data set {name!r}"
    parts = _parts(returned, label)
    first = {part: _first_samples(samples, f"{label}: {part}") for part, samples in parts.items()}
    if isinstance(returned, Splits):
        splits = returned
    else:
        labels = _labels(parts["train"])
        if labels is None:
            labels = torch.tensor([int(_sample(parts["train"], i, label)[1]) for i in range(_length(parts["train"]))])
        shape = tuple(first["train"][0][0].shape)
        splits = Splits(
            parts["train"], parts["validation"], parts["test"], input_shape=shape, classes=int(labels.max()) + 1
        )
    _check_shapes(splits, first, label)
    for part, samples in parts.items():
        labels = _labels(samples)
        if labels is None:
            labels = torch.tensor([int(given) for _, given in first[part]])
        least, most = int(labels.min()), int(labels.max())
        if least < 0:
            raise InputError(f"{label}: {part} has label {least}; number the classes from 0")
        if most >= splits.classes:
            raise InputError(
                f"{label}: {part} has label {most}, but there are {splits.classes} classes, numbered from 0"
            )
    return splits


def _parts(returned: object, label: str) -> dict[str, Samples]:
    wanted = "return bitsearch.data.Splits, or three data sets (train, validation, test)"
    found: dict[str, Any]
    if isinstance(returned, Splits):
        found = {field.name: getattr(returned, field.name) for field in fields(returned) if field.name in PARTS}
    elif isinstance(returned, Mapping):
        if set(returned) != set(PARTS):
            raise InputError(f"{label} returned the keys {', '.join(map(str, returned))}; give {', '.join(PARTS)}")
        found = {part: returned[part] for part in PARTS}
    elif isinstance(returned, tuple | list):
        if len(returned) != len(PARTS):
            raise InputError(
                f"{label} returned {len(returned)} data sets; {wanted}: choices are made on validation, and test is "
                "read once; torch.utils.data.random_split divides one"
            )
        found = dict(zip(PARTS, returned, strict=True))
    else:
        raise InputError(f"{label} returned {type(returned).__name__}; {wanted}")
    for part, samples in found.items():
        if isinstance(samples, DataLoader):
            raise InputError(f"{label}: {part} is a DataLoader; give the data set itself, batches are made here")
        indexed = hasattr(samples, "__getitem__") and hasattr(samples, "__len__")
        if not indexed or isinstance(samples, IterableDataset):
            kind = type(samples).__name__
            raise InputError(f"{label}: {part} is {kind}; give a torch Dataset with __len__ and __getitem__")
    if len({id(samples) for samples in found.values()}) < len(PARTS):
        raise InputError(f"{label}: two of {', '.join(PARTS)} are the same data set; they must share no sample")
    return found


def _length(samples: Samples) -> int:
    return len(samples)  # type: ignore[arg-type]


def _sample(samples: Samples, index: int, label: str) -> Any:
    try:
        return samples[index]
    except Exception as error:
        raise InputError(f"{label}: reading sample {index} failed at {located(error)}") from error


def _first_samples(samples: Samples, label: str) -> list[tuple[Tensor, Any]]:
    if _length(samples) == 0:
        raise InputError(f"{label} is empty; give every part at least one sample")
    found = []
    for index in range(min(CHECKED, _length(samples))):
        sample = _sample(samples, index, label)
        _check_sample(sample, f"{label} sample {index}")
        found.append((sample[0], sample[1]))
    return found


def _check_sample(sample: object, where: str) -> None:
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        size = f" of {len(sample)}" if isinstance(sample, tuple | list) else ""
        raise InputError(f"{where} is {type(sample).__name__}{size}; a sample is a pair (input, label)")
    inputs, label = sample
    if not isinstance(inputs, Tensor):
        kind = f"{type(inputs).__module__}.{type(inputs).__qualname__}".removeprefix("builtins.")
        raise InputError(
            f"{where}: its input is {kind}; give a float32 tensor, as torchvision.transforms.ToTensor() makes"
        )
    if inputs.dtype != torch.float32:
        mend = "convert them by .float()" if inputs.is_floating_point() else "divide by 255 or normalize them"
        raise InputError(f"{where}: inputs are {_kind(inputs)}; they must be float32, so {mend}")
    if not bool(inputs.isfinite().all()):
        raise InputError(f"{where}: inputs have NaN or infinite values; mend or leave out such samples")
    if not _is_label(label):
        shown = f"a {_kind(label)} tensor of shape {tuple(label.shape)}" if isinstance(label, Tensor) else repr(label)
        raise InputError(f"{where}: its label is {shown}; give the class's number as an int or an int64 tensor")


def _is_label(label: object) -> bool:
    """Whether a batch of such labels is an ``int64`` tensor ``[N]``."""
    try:
        found = torch.as_tensor(label)
    except (TypeError, ValueError, RuntimeError):
        return False
    return found.dtype == torch.int64 and found.dim() == 0


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _check_shapes(splits: Splits, first: Mapping[str, list[tuple[Tensor, Any]]], label: str) -> None:
    expected = tuple(splits.input_shape)
    shapes = {(part, i): tuple(inputs.shape) for part, found in first.items() for i, (inputs, _) in enumerate(found)}
    for (part, index), shape in shapes.items():
        if shape == expected:
            continue
        if expected in shapes.values():
            raise InputError(
                f"{label}: samples have different shapes, {list(expected)} and, {part} sample {index}, {list(shape)}; "
                "bring them to one"
            )
        raise InputError(f"{label}: {part} sample {index} has shape {list(shape)}, not input_shape {list(expected)}")
    if splits.frames is not None and expected[:1] != (splits.frames,):
        raise InputError(f"{label}: input_shape is {list(expected)}; with frames={splits.frames}, it starts with that")


def _labels(samples: Samples) -> Tensor | None:
    """All labels ``[N]``, where they can be had without reading the samples."""
    if isinstance(samples, Subset):
        whole = _labels(samples.dataset)
        return None if whole is None else whole[torch.as_tensor(samples.indices)]
    if isinstance(samples, TensorDataset):
        found: object = samples.tensors[1]
    elif getattr(samples, "target_transform", None) is None:
        found = getattr(samples, "targets", None)
    else:
        return None
    try:
        labels = torch.as_tensor(found)
    except (TypeError, ValueError, RuntimeError):
        return None
    return labels if labels.shape == (_length(samples),) and not labels.is_floating_point() else None
