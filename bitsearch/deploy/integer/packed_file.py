"""The packed file: a network as integers at exactly their bit widths, in a safetensors container.

Per layer: ``NAME.weight``, uint8, the weight levels, shifted to be non-negative and packed by
:func:`bitsearch.deploy.integer.bitpacking.pack_bits`; ``NAME.multiplier`` and ``NAME.bias``, int32 ``[outputs]``;
``NAME.spike_step``, int32 ``[T]`` or, of one step size for all time steps, ``[1]``. Where all multipliers or steps of a
layer are powers of two, their exponents stand in their place, ``NAME.multiplier_exponent`` and ``NAME.spike_exponent``.
The header holds the program, the widths its integers need, the plan and a checksum; docs/packed-format.md describes it
all for those who write a reader.

The tensors together take exactly the bytes that the cost model calls ``weight_memory``.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bitsearch.deploy.integer.bitpacking import Bytes, pack_bits, unpack_bits
from bitsearch.deploy.integer.interpreter import Replay
from bitsearch.deploy.integer.packed_layer import LARGEST_EXPONENT, Integers, LayerNumbers, PackedLayer, exponents
from bitsearch.deploy.integer.program import Program
from bitsearch.deploy.integer.ranges import Analysis, analyse_ranges
from bitsearch.deploy.integer.source import Source
from bitsearch.errors import InputError
from bitsearch.plan import BitPlan
from bitsearch.quant.uniform import q_max
from bitsearch.validation import Frozen, Name, explain

FORMAT_VERSION = 7

READABLE = ("2", "3", "4", "5", "6", "7")
"""Format 6 is format 7 without exponents, ``one_step``, ``steps_of`` and ``membrane_bits``; 5 also lacks ``source``; 4
also transposed convolutions, settings of neurons, ``neuron``, ``synapses`` and ``weight_of``; 3 also ``fire`` and
repeated inputs; 2 also ``scale``."""

LARGEST_HEADER = 1 << 24
"""Bytes; a ResNet-18's header takes 15 thousand."""

PREFIX = "bitsearch."

_PARTS = ("program", "widths", "plan", "source")
_PARTS_UNTIL_5 = _PARTS[:-1]


class RunWidths(Frozen):
    """Bits of signed integers in one run of a layer: what is always enough, and what the packing batch needed.

    A neuron alone has no accumulator, and weights alone have no membrane.
    """

    accumulator: int | None = Field(None, ge=1, le=64)
    membrane: int | None = Field(None, ge=1, le=64)
    """Of all that the neuron forms, such as 2·u + S, from which a code is found; u itself needs one bit less."""
    output: int = Field(ge=1, le=64)
    observed_accumulator: int | None = Field(None, ge=0, le=64)
    observed_membrane: int | None = Field(None, ge=0, le=64)
    """Of u."""


WIDTHS = TypeAdapter(dict[Name, RunWidths])


@dataclass(frozen=True)
class PackedNetwork:
    """The content of a packed file: an integer program, its numbers, and the bit plan.

    >>> network, task = bitsearch.rebuild(Path("run/plan.json"))
    >>> size = bitsearch.pack(network, task.examples, "network.packed", bitsearch.BitPlan.load("run/plan.json"))
    >>> packed = bitsearch.read("network.packed")
    >>> packed.plan.network, packed.replay()(task.examples).shape == network(task.examples).shape
    ('digits_cnn', True)
    """

    program: Program
    numbers: Mapping[str, LayerNumbers]
    widths: Mapping[str, RunWidths]
    """By operation."""
    plan: BitPlan | None
    source: Source = field(default_factory=Source)
    """Empty in files before format 6."""

    def __repr__(self) -> str:
        plan = "" if self.plan is None else f"{self.plan.network!r}, "
        stored = [name for name, layer in self.program.layers.items() if layer.weight_of is None]
        weights = sum(self.numbers[name].levels.size for name in stored)
        return f"PackedNetwork({plan}{len(self.program.layers)} layers, {weights:,} weights)"

    @cached_property
    def analysis(self) -> Analysis:
        """Shapes and ranges of every value; InputError if the program cannot run."""
        return analyse_ranges(self.program, self.numbers)

    def replay(self) -> Replay:
        """The network, ready to run on integers."""
        return Replay(self.program, self.numbers, self.analysis)


def read(path: str | os.PathLike[str]) -> PackedNetwork:
    """Read a packed file; nothing in it is trusted.

    Raises:
        InputError: no packed file of this version, damaged, or not one that could run.

    >>> network, task = bitsearch.rebuild(Path("run/plan.json"))
    >>> size = bitsearch.pack(network, task.examples, "network.packed")
    >>> packed = bitsearch.read("network.packed")
    >>> packed.replay()(task.examples).dtype
    torch.int64
    """
    try:
        with Path(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > LARGEST_HEADER:
            raise InputError(f"{path} is not a packed file: its header claims {length} bytes")
        with safe_open(path, framework="pt") as container:
            return _read(container, str(path))
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot read the packed file {path}: {reason}; write one with bitsearch deploy") from error
    except SafetensorError as error:
        raise InputError(f"{path} is not a packed file: {error}") from error


def _read(container: Any, path: str) -> PackedNetwork:
    metadata = container.metadata() or {}
    version = metadata.get(f"{PREFIX}format")
    if version not in READABLE:
        description = "no packed file" if version is None else f"a packed file of format {version[:20]!r}"
        raise InputError(
            f"{path} is {description}, not a packed file of format {FORMAT_VERSION}; write one with bitsearch deploy"
        )
    keys = _PARTS if int(version) > 5 else _PARTS_UNTIL_5
    missing = [key for key in (*keys, "sha256") if PREFIX + key not in metadata]
    if missing:
        raise InputError(f"{path} is not a packed file: its header lacks {PREFIX}{missing[0]}")
    parts = {key: metadata[PREFIX + key] for key in keys}
    program = Program.from_json(parts["program"], f"{path} is not a packed file: program")
    tensors = _tensors(container, program, path)
    if checksum(parts, tensors) != metadata[f"{PREFIX}sha256"]:
        raise InputError(f"{path} is damaged: its content does not have the checksum it was written with")
    numbers = {name: _numbers(name, layer, tensors, path) for name, layer in program.layers.items()}
    plan = BitPlan.from_json(parts["plan"], f"{path}: plan") if parts["plan"] else None
    try:
        widths = WIDTHS.validate_json(parts["widths"], strict=True)
        source = Source.model_validate_json(parts.get("source", "{}"), strict=True)
        packed = PackedNetwork(program, numbers, widths, plan, source)
        # Nothing is handed out that could not run.
        _ = packed.analysis
    except InputError as error:
        raise InputError(f"{path} is not a packed file that can run: {error}") from error
    except ValidationError as error:
        raise InputError(f"{path} is not a packed file: widths or source: {explain(error)}") from error
    return packed


def _tensors(container: Any, program: Program, path: str) -> dict[str, Tensor]:
    """Exactly the program's tensors; their types and sizes are compared before any is read."""
    expected: dict[str, tuple[str, list[int]]] = {}
    for name, layer in program.layers.items():
        count = int(np.prod([int(size) for size in layer.weight_shape], dtype=object))
        if layer.weight_of is None:
            expected[f"{name}.weight"] = ("U8", [-(-count * layer.weight_bits // 8)])
        expected[f"{name}.{_stored_as('multiplier', layer.scale)}"] = ("I32", [layer.outputs])
        expected[f"{name}.bias"] = ("I32", [layer.outputs])
        if layer.stored_steps is not None:
            expected[f"{name}.{_stored_as('spike_step', layer.step_sizes)}"] = ("I32", [layer.stored_steps])
    present = set(container.keys())
    for name in sorted(present ^ set(expected)):
        where = "lacks" if name in expected else "has an unknown"
        raise InputError(f"{path} is not a packed file: it {where} tensor {name[:200]!r}")
    for name, (dtype, shape) in expected.items():
        entry = container.get_slice(name)
        if (entry.get_dtype(), list(entry.get_shape())) != (dtype, shape):
            raise InputError(
                f"{path} is not a packed file: tensor {name!r} is {entry.get_dtype()} {entry.get_shape()}, "
                f"not {dtype} {shape}"
            )
    # Copies: what the library returns lies in the file itself, and is gone when that is cut short.
    return {name: container.get_tensor(name).clone() for name in expected}


def checksum(parts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the header's parts, then of every tensor's name and bytes by name; each ends with a zero."""
    digest = hashlib.sha256()
    for part in parts.values():
        digest.update(part.encode() + b"\0")
    for name in sorted(tensors):
        digest.update(name.encode() + b"\0" + tensors[name].numpy().tobytes() + b"\0")
    return digest.hexdigest()


def stored_levels(numbers: LayerNumbers, layer: PackedLayer) -> Bytes:
    """Weight levels as non-negative numbers: the level plus q_max; one bit, −1 and 1, as 0 and 1."""
    if layer.weight_bits == 1:
        return (numbers.levels > 0).astype(np.uint8)
    return (numbers.levels.astype(np.int16) + q_max(layer.weight_bits, signed=True)).astype(np.uint8)


def stored_tensors(name: str, layer: PackedLayer, numbers: LayerNumbers) -> dict[str, Tensor]:
    """A layer's tensors in the file, by name."""
    stored: dict[str, npt.NDArray[Any]] = {"bias": numbers.bias}
    if layer.weight_of is None:
        stored["weight"] = pack_bits(stored_levels(numbers, layer), layer.weight_bits)
    parts: list[tuple[str, Integers, str | None]] = [("multiplier", numbers.multiplier, layer.scale)]
    if layer.stored_steps is not None:
        parts.append(("spike_step", numbers.steps[: layer.stored_steps].copy(), layer.step_sizes))
    for part, values, kind in parts:
        stored[_stored_as(part, kind)] = values if kind is None else exponents(values)
    return {f"{name}.{part}": torch.from_numpy(values) for part, values in stored.items()}


def _stored_as(part: str, kind: str | None) -> str:
    """The name of a tensor of numbers, or of their exponents where they are powers of two."""
    return part if kind is None else {"multiplier": "multiplier_exponent", "spike_step": "spike_exponent"}[part]


def _powers(name: str, part: str, kind: str | None, tensors: Mapping[str, Tensor], path: str) -> Integers:
    """Numbers that may be stored as exponents."""
    stored: Integers = tensors[f"{name}.{_stored_as(part, kind)}"].numpy()
    if kind is None:
        return stored
    if stored.min() < 0 or stored.max() > LARGEST_EXPONENT:
        raise InputError(
            f"{path} is not a packed file: layer {name!r} has exponents {stored.min()} … {stored.max()}; 0 to "
            f"{LARGEST_EXPONENT} are allowed"
        )
    return np.left_shift(np.int32(1), stored)


def _numbers(name: str, layer: PackedLayer, tensors: Mapping[str, Tensor], path: str) -> LayerNumbers:
    bias = tensors[f"{name}.bias"].numpy()
    multiplier = _powers(name, "multiplier", layer.scale, tensors, path)
    stored_steps = _powers(layer.steps_of or name, "spike_step", layer.step_sizes, tensors, path)
    steps = np.broadcast_to(stored_steps, layer.time_steps).copy()
    count = int(np.prod(layer.weight_shape, dtype=np.int64))
    try:
        weight = tensors[f"{layer.weight_of or name}.weight"]
        stored = unpack_bits(weight.numpy(), layer.weight_bits, count)
    except ValueError as error:
        raise InputError(f"{path} is not a packed file: layer {name!r}: {error}") from error
    if layer.membrane_bits is not None and len(set(steps.tolist())) > 1:
        raise InputError(f"{path} is not a packed file: layer {name!r} has several step sizes for one membrane")
    if steps.min() < 1:
        raise InputError(f"{path} is not a packed file: layer {name!r} has a step of {steps.min()}; at least 1")
    largest = q_max(layer.weight_bits, signed=True)
    if layer.weight_bits > 1 and stored.max() > 2 * largest:
        raise InputError(f"{path} is not a packed file: layer {name!r} has weights outside of ±{largest}")
    levels = 2 * stored.astype(np.int8) - 1 if layer.weight_bits == 1 else (stored.astype(np.int16) - largest)
    return LayerNumbers(levels.astype(np.int8).reshape(layer.weight_shape), multiplier, bias, steps)
