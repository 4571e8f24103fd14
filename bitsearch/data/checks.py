"""The result of a data factory is made into splits, and checked before a network is trained on it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from bitsearch.data.checked_samples import (
    Requirements,
    check_sample,
    checked_samples,
    read_sample,
    without_graph,
)
from bitsearch.data.inputs import check_alike
from bitsearch.data.splits import Samples, Splits
from bitsearch.data.targets import CLASS, Targets
from bitsearch.errors import InputError
from bitsearch.network_inputs import Inputs, dtypes_of, normal_shape, shape_of, shape_text, shapes_in
from bitsearch.registry import is_import_path

CHECKED_SAMPLES = 32
"""Number of samples of every part that are read and checked."""
PARTS = ("train", "validation", "test")
MAX_CLASSES = 1_000_000
"""Of labels that nobody declared the number of: a label above is no class's, and would be an output of the network."""


def checked_splits(
    factory_result: object, name: str, targets: Targets = CLASS, *, users_own: bool | None = None
) -> Splits:
    """Check a factory's result and return it as splits.

    Samples must have dense ``float32`` inputs without NaN and infinities, all of one shape, and ``int64`` labels. The
    first :data:`CHECKED_SAMPLES` of every part are read for that, and of a user's own data, all that are in memory; its
    others are checked as they are read. All labels are checked if a part keeps them as tensors or as ``targets``.

    Args:
        factory_result: :class:`Splits`; or (train, validation, test), or a mapping with these keys. Without
            :class:`Splits`, the shape is the first training sample's, and classes are counted from 0 to the largest
            training label; a data set that keeps no labels beside its samples is read once for that.
        name: of the factory, for the message.
        users_own: whether all samples are checked, in the end; by default, whether the factory is a user's own. Such
            data may lack a test part.
        targets: what those of the samples are to be; class numbers by default.

    Raises:
        InputError: the result has another type, or a check fails; the message names the sample.
    """
    label = f"data set {name!r}"
    users_own = is_import_path(name) if users_own is None else users_own
    parts = {part: without_graph(samples) for part, samples in _parts(factory_result, label).items()}
    first_samples = {part: _first_samples(samples, f"{label}: {part}", targets) for part, samples in parts.items()}
    if isinstance(factory_result, Splits):
        splits = _with_parts(factory_result, parts)
    else:
        classes = _count_classes(parts["train"], first_samples["train"], f"{label}: train", targets)
        if classes > MAX_CLASSES:
            raise InputError(
                f"{label}: train has a label {classes - 1}, and so {classes} classes; number at most {MAX_CLASSES} "
                "from 0, without gaps"
            )
        shape = shape_of(first_samples["train"][0][0])
        splits = Splits(parts["train"], parts["validation"], parts.get("test"), input_shape=shape, classes=classes)
    _check_alike(splits, first_samples, label)
    target_shape = tuple(torch.as_tensor(first_samples["train"][0][1]).shape)
    for part, samples in parts.items() if targets.kind == "class" else ():
        labels = _labels(samples)
        if labels is None:
            labels = torch.tensor([int(target) for _, target in first_samples[part]])
        smallest, largest = int(labels.min()), int(labels.max())
        if smallest < 0:
            index = int(labels.argmin())
            raise InputError(f"{label}: {part} has label {smallest} (sample {index}); number the classes from 0")
        if largest >= splits.classes:
            index = int(labels.argmax())
            raise InputError(
                f"{label}: {part} has label {largest} (sample {index}), but there are {splits.classes} classes, "
                "numbered from 0"
            )
    if not users_own:
        return splits
    dtypes = dtypes_of(first_samples["train"][0][0])
    requirements = Requirements(normal_shape(splits.input_shape), dtypes, splits.classes, targets, target_shape)
    for part, samples in parts.items():
        parts[part] = checked_samples(samples, f"{label}: {part}", requirements)
    return _with_parts(splits, parts)


def _with_parts(splits: Splits, parts: Mapping[str, Samples]) -> Splits:
    """The splits themselves, if these are their parts."""
    if all(getattr(splits, part) is samples for part, samples in parts.items()):
        return splits
    return replace(splits, train=parts["train"], validation=parts["validation"], test=parts.get("test"))


def _count_classes(train: Samples, first_samples: list[tuple[Inputs, Any]], place: str, targets: Targets) -> int:
    """How many classes, labels or values a network has to give."""
    if targets.kind == "class":
        labels = _labels(train)
        return int((_read_labels(train, place) if labels is None else labels).max()) + 1
    if targets.kind == "classes":
        # A class may be in the last sample alone.
        maps = []
        for index in range(_length(train)):
            sample = read_sample(train, index, place)
            check_sample(sample, f"{place} sample {index}", targets=targets)
            maps.append(sample[1])
        return targets.outputs(maps)
    return targets.outputs([torch.as_tensor(first_samples[0][1])])


def _read_labels(samples: Samples, place: str) -> Tensor:
    """Labels ``[N]`` of samples that keep none beside them; each is read, and checked, once."""
    labels = []
    for index in range(_length(samples)):
        sample = read_sample(samples, index, place)
        check_sample(sample, f"{place} sample {index}")
        labels.append(int(sample[1]))
    return torch.tensor(labels)


def _parts(factory_result: object, label: str) -> dict[str, Samples]:
    advice = "return bitsearch.data.Splits, or three data sets (train, validation, test)"
    parts: dict[str, Any]
    if isinstance(factory_result, Splits):
        parts = {part: samples for part in PARTS if (samples := getattr(factory_result, part)) is not None}
    elif isinstance(factory_result, Mapping):
        if not set(PARTS[:2]) <= set(factory_result) <= set(PARTS):
            raise InputError(
                f"{label} returned the keys {', '.join(map(str, factory_result))}; give {', '.join(PARTS)}"
            )
        parts = {part: factory_result[part] for part in PARTS if part in factory_result}
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
    if len({id(samples) for samples in parts.values()}) < len(parts):
        raise InputError(f"{label}: two of {', '.join(PARTS)} are the same data set; they must share no sample")
    return parts


def _length(samples: Samples) -> int:
    return len(samples)


def _first_samples(samples: Samples, label: str, targets: Targets) -> list[tuple[Inputs, Any]]:
    if _length(samples) == 0:
        raise InputError(f"{label} is empty; give every part at least one sample")
    pairs = []
    for index in range(min(CHECKED_SAMPLES, _length(samples))):
        sample = read_sample(samples, index, label)
        pairs.append(check_sample(sample, f"{label} sample {index}", targets=targets))
    return pairs


def _check_alike(splits: Splits, first_samples: Mapping[str, list[tuple[Inputs, Any]]], label: str) -> None:
    expected = normal_shape(splits.input_shape)
    shapes = {
        (part, index): shape_of(inputs)
        for part, pairs in first_samples.items()
        for index, (inputs, _) in enumerate(pairs)
    }
    for (part, index), shape in shapes.items():
        if shape == expected:
            continue
        if expected in shapes.values():
            raise InputError(
                f"{label}: samples have different shapes, {shape_text(expected)} and, {part} sample {index}, "
                f"{shape_text(shape)}; bring them to one"
            )
        raise InputError(
            f"{label}: {part} sample {index} has shape {shape_text(shape)}, not input_shape {shape_text(expected)}"
        )
    dtypes = dtypes_of(first_samples["train"][0][0])
    for part, pairs in first_samples.items():
        for index, (inputs, _) in enumerate(pairs):
            check_alike(inputs, dtypes, f"{label}: {part} sample {index}")
    if splits.frames is not None and any(shape[:1] != (splits.frames,) for shape in shapes_in(expected)):
        raise InputError(
            f"{label}: input_shape is {shape_text(expected)}; with frames={splits.frames}, it starts with that"
        )


def _labels(samples: Samples) -> Tensor | None:
    """All labels ``[N]``; None if they are only known by reading the samples."""
    if isinstance(samples, Subset):
        all_labels = _labels(samples.dataset)  # type: ignore[arg-type]  # a Subset is of what it indexes
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
