"""The result of a data factory is made into splits, and checked before a network is trained on it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from bitsearch.data.splits import Samples, Splits
from bitsearch.errors import InputError, located

CHECKED_SAMPLES = 32
"""Number of samples of every part that are read and checked."""
PARTS = ("train", "validation", "test")


def checked_splits(factory_result: object, name: str) -> Splits:
    """Check a factory's result and return it as splits.

    The first :data:`CHECKED_SAMPLES` samples of every part must have ``float32`` inputs without NaN and infinities, all
    of one shape, and ``int64`` labels. All labels are checked if a part keeps them as tensors or as ``targets``.

    Args:
        factory_result: :class:`Splits`; or (train, validation, test), or a mapping with these keys. Without
            :class:`Splits`, the shape is the first training sample's, and classes are counted from 0 to the largest
            training label; a data set that keeps no labels beside its samples is read once for that.
        name: of the factory, for the message.

    Raises:
        InputError: the result has another type, or a check fails; the message names the sample.
    """
    label = f"data set {name!r}"
    parts = _parts(factory_result, label)
    first_samples = {part: _first_samples(samples, f"{label}: {part}") for part, samples in parts.items()}
    if isinstance(factory_result, Splits):
        splits = factory_result
    else:
        labels = _labels(parts["train"])
        if labels is None:
            train = parts["train"]
            labels = torch.tensor([int(_sample(train, index, label)[1]) for index in range(_length(train))])
        shape = tuple(first_samples["train"][0][0].shape)
        splits = Splits(
            parts["train"], parts["validation"], parts["test"], input_shape=shape, classes=int(labels.max()) + 1
        )
    _check_shapes(splits, first_samples, label)
    for part, samples in parts.items():
        labels = _labels(samples)
        if labels is None:
            labels = torch.tensor([int(target) for _, target in first_samples[part]])
        smallest, largest = int(labels.min()), int(labels.max())
        if smallest < 0:
            raise InputError(f"{label}: {part} has label {smallest}; number the classes from 0")
        if largest >= splits.classes:
            raise InputError(
                f"{label}: {part} has label {largest}, but there are {splits.classes} classes, numbered from 0"
            )
    return splits


def _parts(factory_result: object, label: str) -> dict[str, Samples]:
    advice = "return bitsearch.data.Splits, or three data sets (train, validation, test)"
    parts: dict[str, Any]
    if isinstance(factory_result, Splits):
        parts = {part: factory_result.split(part) for part in PARTS}
    elif isinstance(factory_result, Mapping):
        if set(factory_result) != set(PARTS):
            raise InputError(
                f"{label} returned the keys {', '.join(map(str, factory_result))}; give {', '.join(PARTS)}"
            )
        parts = {part: factory_result[part] for part in PARTS}
    elif isinstance(factory_result, tuple | list):
        if len(factory_result) != len(PARTS):
            raise InputError(
                f"{label} returned {len(factory_result)} data sets; {advice}: choices are made on validation, and "
                "test is read once; torch.utils.data.random_split divides one"
            )
        parts = dict(zip(PARTS, factory_result, strict=True))
    else:
        raise InputError(f"{label} returned {type(factory_result).__name__}; {advice}")
    for part, samples in parts.items():
        if isinstance(samples, DataLoader):
            raise InputError(f"{label}: {part} is a DataLoader; give the data set itself, batches are made here")
        indexed = hasattr(samples, "__getitem__") and hasattr(samples, "__len__")
        if not indexed or isinstance(samples, IterableDataset):
            kind = type(samples).__name__
            raise InputError(f"{label}: {part} is {kind}; give a torch Dataset with __len__ and __getitem__")
    if len({id(samples) for samples in parts.values()}) < len(PARTS):
        raise InputError(f"{label}: two of {', '.join(PARTS)} are the same data set; they must share no sample")
    return parts


def _length(samples: Samples) -> int:
    return len(samples)  # type: ignore[arg-type]


def _sample(samples: Samples, index: int, label: str) -> Any:
    try:
        return samples[index]
    except (Exception, SystemExit) as error:
        raise InputError(f"{label}: reading sample {index} failed at {located(error)}") from error


def _first_samples(samples: Samples, label: str) -> list[tuple[Tensor, Any]]:
    if _length(samples) == 0:
        raise InputError(f"{label} is empty; give every part at least one sample")
    pairs = []
    for index in range(min(CHECKED_SAMPLES, _length(samples))):
        sample = _sample(samples, index, label)
        _check_sample(sample, f"{label} sample {index}")
        pairs.append((sample[0], sample[1]))
    return pairs


def _check_sample(sample: object, place: str) -> None:
    if not isinstance(sample, tuple | list) or len(sample) != 2:
        size = f" of {len(sample)}" if isinstance(sample, tuple | list) else ""
        raise InputError(f"{place} is {type(sample).__name__}{size}; a sample is a pair (input, label)")
    inputs, label = sample
    if not isinstance(inputs, Tensor):
        kind = f"{type(inputs).__module__}.{type(inputs).__qualname__}".removeprefix("builtins.")
        raise InputError(
            f"{place}: its input is {kind}; give a float32 tensor, as torchvision.transforms.ToTensor() makes"
        )
    if inputs.dtype != torch.float32:
        remedy = "convert them by .float()" if inputs.is_floating_point() else "divide by 255 or normalize them"
        raise InputError(f"{place}: inputs are {_kind(inputs)}; they must be float32, so {remedy}")
    if not bool(inputs.isfinite().all()):
        raise InputError(f"{place}: inputs have NaN or infinite values; mend or leave out such samples")
    if not _is_label(label):
        label_text = (
            f"a {_kind(label)} tensor of shape {tuple(label.shape)}" if isinstance(label, Tensor) else repr(label)
        )
        raise InputError(f"{place}: its label is {label_text}; give the class's number as an int or an int64 tensor")


def _is_label(label: object) -> bool:
    """True if a batch of such labels is an ``int64`` tensor ``[N]``."""
    try:
        tensor = torch.as_tensor(label)
    except (TypeError, ValueError, RuntimeError):
        return False
    return tensor.dtype == torch.int64 and tensor.dim() == 0


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _check_shapes(splits: Splits, first_samples: Mapping[str, list[tuple[Tensor, Any]]], label: str) -> None:
    expected = tuple(splits.input_shape)
    shapes = {
        (part, index): tuple(inputs.shape)
        for part, pairs in first_samples.items()
        for index, (inputs, _) in enumerate(pairs)
    }
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
    """All labels ``[N]``; None if they are only known by reading the samples."""
    if isinstance(samples, Subset):
        all_labels = _labels(samples.dataset)
        return None if all_labels is None else all_labels[torch.as_tensor(samples.indices)]
    if isinstance(samples, TensorDataset):
        targets: object = samples.tensors[1]
    elif getattr(samples, "target_transform", None) is None:
        targets = getattr(samples, "targets", None)
    else:
        return None
    try:
        labels = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError):
        return None
    return labels if labels.shape == (_length(samples),) and not labels.is_floating_point() else None
