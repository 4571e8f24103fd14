"""A search of a network and data that a Python program has already: the space that stands for them."""

import copy
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
)

from bitsearch.data import Splits
from bitsearch.data.checked_samples import CheckedSamples
from bitsearch.data.checks import checked_splits
from bitsearch.data.loaders import LoadedSamples
from bitsearch.data.targets import Targets
from bitsearch.errors import InputError, located
from bitsearch.frameworks.neurons import reset_states
from bitsearch.frameworks.reparametrized import detach_computed_weights
from bitsearch.launch import launched_world_size
from bitsearch.layers.weights import weights_checksum
from bitsearch.network_inputs import shape_text
from bitsearch.registry import OBJECT
from bitsearch.space import SearchSpace
from bitsearch.task_settings import TaskSettings
from bitsearch.train.output_check import output_count
from bitsearch.train.task import Objects
from bitsearch.train.tasks import output_form, targets_of

PARTS = ("train", "validation", "test")
TEMPLATE = "digits"
"""The space whose settings an object is searched with, where none is given."""
EXAMPLES = 4
"""Training samples from which the network's outputs are counted."""


def objects_of(
    network: nn.Module, data: Any, *, time_axis: int | None = None, task: TaskSettings | None = None
) -> Objects:
    """A copy of a network, which is left as it is, and its data as splits.

    Args:
        network: trained or not.
        data: :class:`bitsearch.Splits`; or (train, validation, test), or (train, validation), or a mapping with these
            keys, of data sets or of loaders.
        time_axis: of the inputs in the loaders' batches, 0 or 1, where they have frames.
        task: that the network is trained for; classification by default.

    Raises:
        InputError: data that cannot be trained on, or a network that cannot run them.
    """
    if time_axis not in (None, 0, 1):
        raise InputError(f"time_axis is {time_axis!r}; give 0 or 1, where the frames are in a batch's inputs, or None")
    # What a neuron keeps of its last input belongs to a graph that cannot be copied.
    reset_states(network)
    detach_computed_weights(network)
    for path, value in itertools.chain(network.named_parameters(), network.named_buffers()):
        # A run knows a network again by its weights, and would give a lazy module others each time.
        if is_lazy(value):
            raise InputError(
                f"network {object_name(network)!r}: its {path} has no shape yet; call the network with a batch of "
                "inputs once, which gives lazy modules their weights"
            )
    try:
        network = copy.deepcopy(network).cpu()
    except Exception as error:
        raise InputError(f"the network cannot be copied: {error}; every trial starts from a copy") from error
    task = task or TaskSettings()
    targets = targets_of(task)
    parts = _parts(data)
    loaded = {name for name, part in parts.items() if not isinstance(part, Dataset)}
    if loaded and launched_world_size() > 1:
        raise InputError(
            f"{sorted(loaded)[0]} is a loader, whose batches {launched_world_size()} processes cannot share; give data "
            "sets, or train in one process"
        )
    if loaded == set(parts):
        train, *others = (
            LoadedSamples(part, name, time_axis=time_axis, targets=targets) for name, part in parts.items()
        )
        ordered = [part.in_order() for part in others]
        splits = Splits(
            train,
            ordered[0],
            ordered[1] if len(ordered) > 1 else None,
            input_shape=train.input_shape or (),
            classes=1,
            frames=train.frames,
        )
        _check_alike([train, *ordered])
    elif loaded:
        kinds = ", ".join(f"{name} is a {type(part).__name__}" for name, part in parts.items())
        raise InputError(f"{kinds}; give all as loaders or all as data sets")
    elif time_axis is not None:
        raise InputError("time_axis is for loaders; data sets with frames are given as bitsearch.Splits(..., frames=T)")
    else:
        splits = _checked(data, parts, targets)
    name = object_name(network)
    inputs, examples = splits.examples(EXAMPLES)
    classes = output_count(network, inputs, name, output_form(task, examples.dim() - 1))
    for part in (splits.train, splits.validation, splits.test):
        if isinstance(part, LoadedSamples):
            part.classes = classes
    return Objects(network, replace(splits, classes=max(classes, splits.classes)))


def template_of(template: SearchSpace | str | Path | None) -> SearchSpace:
    """The space whose settings an object is searched with: the one that is given, or that of :data:`TEMPLATE`."""
    return template if isinstance(template, SearchSpace) else SearchSpace.load(template or TEMPLATE)


def space_of(
    objects: Objects,
    template: SearchSpace | str | Path | None,
    changes: Mapping[str, Any],
    task: TaskSettings | None = None,
) -> SearchSpace:
    """The space of a network and data: the settings of another one, and what there is to know them by again.

    Args:
        objects: network and data.
        template: brings choices, training, allocation and search; those of :data:`TEMPLATE` by default, with as many
            time steps as there are frames.
        changes: fields of ``[training]``.
        task: that the network is trained for; the template's own by default.
    """
    network, splits = objects.network, objects.splits
    space = template_of(template)
    training: dict[str, Any] = {"full_precision_epochs": 0} | dict(changes)
    options: dict[str, Any] = dict(splits.sizes)
    if isinstance(splits.train, LoadedSamples):
        training["batch_size"] = options["batch_size"] = splits.train.batch_size
        if splits.train.time_axis is not None:
            options["time_axis"] = splits.train.time_axis
    content = space.with_training(training).model_dump(exclude_none=True) | {
        "network": object_name(network),
        "network_options": {},
        "data": f"{_data_kind(splits.train)}{OBJECT}",
        "data_options": options,
    }
    if task is not None:
        content["task"] = task.model_dump(exclude_none=True)
    content.pop("weights", None)
    if template is None:
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", type(network).__name__).lstrip("-.")[:100]
        followed = ("choices", "baseline", "start", "first_layer") if splits.frames is not None else ()
        content |= {"name": name or "network", "description": "", "follow_frames": followed}
        content["first_layer"] |= {"relax": True}
    return SearchSpace.model_validate(content)


def object_name(network: nn.Module) -> str:
    """How plans and messages name a network that is an object."""
    return f"{type(network).__name__}{OBJECT}"


def object_checksum(network: nn.Module) -> str:
    """SHA-256 of a network's modules and weights, by which a run knows a network again that lies in no file."""
    return hashlib.sha256(f"{network!r}\n{weights_checksum(network)}".encode()).hexdigest()


def _data_kind(samples: Any) -> str:
    if isinstance(samples, LoadedSamples):
        samples = samples.loader
    return type(samples.samples if isinstance(samples, CheckedSamples) else samples).__name__


def _parts(data: Any) -> dict[str, Any]:
    if isinstance(data, Splits):
        return {name: part for name in PARTS if (part := getattr(data, name)) is not None}
    if isinstance(data, Mapping):
        if not set(PARTS[:2]) <= set(data) <= set(PARTS):
            raise InputError(f"data has the keys {', '.join(map(str, data))}; give train, validation and, if any, test")
        parts = {name: data[name] for name in PARTS if name in data}
    elif isinstance(data, tuple | list) and len(data) in (2, 3):
        parts = dict(zip(PARTS, data, strict=False))
    else:
        size = f" of {len(data)}" if isinstance(data, tuple | list) else ""
        raise InputError(
            f"data is {type(data).__name__}{size}; give (train, validation, test), or (train, validation), of data "
            "sets or loaders"
        )
    for name, part in parts.items():
        if isinstance(part, IterableDataset):
            raise InputError(f"{name} is a {type(part).__name__}; give it in a torch DataLoader, which makes batches")
        if not isinstance(part, Dataset) and not hasattr(part, "__iter__"):
            raise InputError(f"{name} is {type(part).__name__}; give a torch Dataset or a DataLoader")
    _check_apart(parts)
    return parts


def _check_apart(parts: Mapping[str, Any]) -> None:
    """InputError where two parts are known to share samples: choices and figures would be of what was trained on."""
    if len({id(part) for part in parts.values()}) < len(parts):
        raise InputError(f"two of {', '.join(parts)} are the same object; they must share no sample")
    read = {name: _samples_of(part, name) for name, part in parts.items()}
    for (name, (source, indices)), (other, (other_source, others)) in itertools.combinations(read.items(), 2):
        if source is not other_source or indices is None or others is None:
            continue
        shared = len(set(indices) & set(others))
        if shared:
            raise InputError(
                f"{name} and {other} share {shared:,} of the {len(source):,} samples of one {type(source).__name__}; "
                "divide it, as torch.utils.data.random_split does"
            )


def _samples_of(part: Any, name: str) -> tuple[Any, Sequence[int] | None]:
    """As :func:`_source_of`; InputError with file and line where code of the user's fails."""
    try:
        return _source_of(part)
    except (Exception, SystemExit) as error:
        raise InputError(f"the samples of {name} cannot be counted: {located(error)}") from error


def _source_of(part: Any) -> tuple[Any, Sequence[int] | None]:
    """The data set that a part reads in the end, and which of its samples; None where that is not known."""
    indices: Sequence[int] | None = None
    if isinstance(part, DataLoader):
        # Of a loader that was given its batches, `sampler` is not what orders them.
        in_batches = part.batch_sampler
        sampler = (
            part.sampler if in_batches is None else in_batches.sampler if type(in_batches) is BatchSampler else None
        )
        part = part.dataset
        if isinstance(sampler, SubsetRandomSampler):
            indices = list(sampler.indices)
        elif not isinstance(sampler, SequentialSampler | RandomSampler):
            return part, None
    while isinstance(part, Subset):
        indices = list(part.indices) if indices is None else [part.indices[index] for index in indices]
        part = part.dataset
    if indices is None and isinstance(part, Dataset) and hasattr(part, "__len__"):
        indices = range(len(part))
    return part, indices


def _checked(data: Any, parts: Mapping[str, Any], targets: Targets) -> Splits:
    """Data sets as splits, every sample checked when it is read."""
    source = data if isinstance(data, Splits) else dict(parts)
    return checked_splits(source, f"data{OBJECT}", targets, users_own=True)


def _check_alike(parts: list[LoadedSamples]) -> None:
    first = parts[0]
    for part in parts[1:]:
        if part.input_shape != first.input_shape:
            raise InputError(
                f"{part.place} has inputs of shape {shape_text(part.input_shape or ())}, {first.place} of "
                f"{shape_text(first.input_shape or ())}; bring them to one"
            )
