"""Hardware targets: a chip's bit widths, its memory, and the costs of its operations.

A target is a commented TOML file. Those shipped with bitsearch are found by name, others by path. Every figure names
its source, so that an estimate made from it can be checked.
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from bitsearch.choices import Span
from bitsearch.errors import InputError
from bitsearch.layer_rules import LayerRule
from bitsearch.plug_ins import load_plug_in
from bitsearch.validation import MAX_BITS, Bits, Cost, Count, Frozen, Positive, TimeSteps, from_toml, load_toml

FIGURES: dict[str, str] = {
    "weight_bits": "bits",
    "spike_bits": "bits",
    "max_time_steps": "time steps",
    "membrane_bits": "bits",
    "accumulator_bits": "bits",
    "memory.weight_bytes": "bytes",
    "memory.working_bytes": "bytes",
    "cores.count": "cores",
    "cores.bytes_each": "bytes",
    "energy.bit_operation": "pJ a bit operation",
    "energy.accumulate": "pJ an accumulation",
    "energy.weight_byte": "pJ a byte",
    "energy.state_byte": "pJ a byte",
    "energy.limit": "pJ an input",
    "latency.clock": "Hz",
    "latency.bit_operations_per_cycle": "bit operations a cycle",
    "latency.macs_per_cycle": "MACs a cycle",
    "latency.layer_overhead_cycles": "cycles",
}
"""Units of the figures that a target may have; every figure needs an entry under ``[sources]``."""


def _expand_range(value: object) -> object:
    if isinstance(value, list | tuple):
        return value
    try:
        span = Span.model_validate(value, strict=True)
    except ValidationError as error:
        raise ValueError("list the widths, such as [1, 2, 4], or give low and high, low not above high") from error
    return tuple(range(span.low, min(span.high, MAX_BITS + 1) + 1))


def _check_rising(widths: tuple[int, ...]) -> tuple[int, ...]:
    if list(widths) != sorted(set(widths)):
        raise ValueError("list every width once, in rising order")
    return widths


def _check_source(source: object) -> object:
    if isinstance(source, dict):
        raise ValueError('put the whole key into quotation marks, such as "energy.bit_operation" = "…"')
    return source


Widths = Annotated[
    tuple[Bits, ...],
    Field(min_length=1, strict=False),
    BeforeValidator(_expand_range, json_schema_input_type=Annotated[tuple[Bits, ...], Field(min_length=1)] | Span),
    AfterValidator(_check_rising),
]
"""Bit widths in rising order; ``{low = 1, high = 8}`` stands for all from 1 to 8."""
Source = Annotated[str, Field(pattern=r"\S", max_length=2000), BeforeValidator(_check_source)]


class TargetTable(Frozen):
    """Base of a target's tables, with strict types: ``"8"`` is not 8, and ``true`` is not 1."""

    model_config = ConfigDict(strict=True)


class NonEmptyTable(TargetTable):
    """Base of a target's tables with optional entries, of which a table needs at least one."""

    @model_validator(mode="after")
    def _not_empty(self) -> "NonEmptyTable":
        if all(value is None for _, value in self):
            raise ValueError(f"give at least one of {', '.join(type(self).model_fields)}, or leave the table out")
        return self


class RequiredBits(NonEmptyTable):
    """Numbers that the target requires of the first or last layer; other layers need not allow them."""

    weight_bits: Bits | None = None
    """Bits a weight."""
    spike_bits: Bits | None = None
    """Bits a spike, at every time step."""
    time_steps: TimeSteps | None = None
    """Time steps."""


class Memory(NonEmptyTable):
    """Memory of the whole chip."""

    weight_bytes: Count | None = None
    """Bytes for the stored weights, step sizes, multipliers and biases."""
    working_bytes: Count | None = None
    """Bytes for membrane potentials and spikes."""


class Cores(TargetTable):
    """Cores with separate memories for a layer's weights and states; a layer that needs more takes several cores."""

    count: Count
    """Cores on the chip."""
    bytes_each: Count
    """Bytes of memory of one core."""


class Energy(TargetTable):
    """Energy of single operations, for an estimate of the energy of one input."""

    bit_operation: Cost = 0.0
    """pJ a bit operation, a MAC of one weight bit and one spike bit; a MAC of w and s bits has w·s."""
    accumulate: Cost = 0.0
    """pJ to add one product to a membrane potential, once a MAC and time step, whatever its bits."""
    weight_byte: Cost = 0.0
    """pJ a byte of weights read."""
    state_byte: Cost = 0.0
    """pJ a byte of membrane potentials or spikes moved."""
    event_driven: bool = False
    """True if only non-zero spikes cost operations; the estimate then needs firing rates."""
    limit: Positive | None = None
    """Most pJ that one input may take; every plan keeps to it."""

    @model_validator(mode="after")
    def _costs_something(self) -> "Energy":
        if not (self.bit_operation or self.accumulate or self.weight_byte or self.state_byte):
            raise ValueError("every operation is free; give one of them more than 0 pJ, or leave the table out")
        return self


class Latency(TargetTable):
    """Time of the operations, for an estimate of the time of one input; layers run one after another."""

    clock: Positive
    """Hz."""
    bit_operations_per_cycle: Positive | None = None
    """Bit operations a cycle, on hardware where fewer bits take less time."""
    macs_per_cycle: Positive | None = None
    """MACs a cycle, on hardware where a MAC takes the same time at any width."""
    layer_overhead_cycles: int = Field(default=0, ge=0)
    """Additional cycles of every layer."""

    @model_validator(mode="after")
    def _one_speed(self) -> "Latency":
        if (self.bit_operations_per_cycle is None) == (self.macs_per_cycle is None):
            raise ValueError("give exactly one of bit_operations_per_cycle and macs_per_cycle")
        return self


class Target(TargetTable):
    """A hardware target.

    >>> target = bitsearch.Target.load("power_of_two")
    >>> target.weight_bits, target.max_time_steps, "generic" in bitsearch.Target.names()
    ((1, 2, 4, 8), 8, True)
    """

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")
    description: str = ""
    weight_bits: Widths
    """Bits that a weight may have."""
    spike_bits: Widths
    """Bits that a spike may have, at every time step."""
    max_time_steps: TimeSteps
    """Most time steps that a layer may have."""
    granularity: tuple[Literal["layer", "channel"], ...] = Field(
        default=("layer", "channel"), min_length=1, strict=False
    )
    """A weight step size for the whole layer, for every output channel, or either."""
    first_layer: RequiredBits | None = None
    last_layer: RequiredBits | None = None
    layers: tuple[LayerRule, ...] = Field(default=(), strict=False)
    """What layers may get whose names match, in place of the widths and time steps that all may have."""
    one_spike_stream: bool = False
    """True where neurons send one stream of spikes to all layers that read them, which then share spike bits and time
    steps; elsewhere every layer may have neurons of its own."""
    membrane_bits: int = Field(default=32, ge=8, le=32)
    """Bits at which a membrane potential or an input current is stored, for the costs."""
    accumulator_bits: int | None = Field(default=None, ge=8, le=64)
    """Bits in which a layer adds up its products; what would need more is not packed. None: any."""
    memory: Memory | None = None
    cores: Cores | None = None
    energy: Energy | None = None
    latency: Latency | None = None
    sources: dict[str, Source]
    """The source of every figure, by its key such as ``energy.bit_operation``: a citation, or "assumption: …".

    A figure at its default, such as 32 membrane bits, needs none.
    """

    @field_validator("sources")
    @classmethod
    def _complete(cls, sources: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        figures = _figures(info.data)
        for key, (value, default) in figures.items():
            if key not in sources and value != default:
                raise ValueError(f'{key} has no source; add "{key}" = a citation, or "assumption: …" where it is yours')
        for key in sources:
            if key not in figures:
                raise ValueError(f"{key!r} is not a figure of this target; it gives: {', '.join(figures)}")
        return sources

    @field_validator("layers")
    @classmethod
    def _of_hardware(cls, rules: tuple[LayerRule, ...]) -> tuple[LayerRule, ...]:
        for rule in rules:
            if rule.quantizer is not None:
                raise ValueError(
                    f"layers {rule} has a quantizer, by which weights are trained; say it in the search space"
                )
        return rules

    @property
    def figures(self) -> dict[str, Any]:
        """The target's figures, by their keys in :data:`FIGURES`."""
        return {key: value for key, (value, _) in _figures(dict(self)).items()}

    def to_json(self) -> str:
        """The target as JSON; :meth:`model_validate_json` reads it again."""
        return self.model_dump_json(indent=2, exclude_none=True) + "\n"

    def to_toml(self) -> str:
        """The target as TOML, as :meth:`from_toml` reads it."""
        return tomli_w.dumps(
            self.model_dump(mode="json", exclude_none=True, exclude_defaults=True) | {"name": self.name}
        )

    @classmethod
    def from_toml(cls, text: str, source: str = "hardware target") -> "Target":
        """Read a target; InputError names ``source``, the field, the value and what is allowed."""
        return from_toml(cls, text, source)

    @classmethod
    def load(cls, name_or_path: str | Path) -> "Target":
        """A shipped target by name, a package's, or any by the path of its TOML file (it ends in ``.toml``).

        A package declares its TOML text, or a target, as an entry point of ``bitsearch.targets``.
        """
        name = str(name_or_path)
        if name == name_or_path and not name.endswith(".toml") and name not in cls.names():
            plug_in = load_plug_in("hardware target", name)
            if isinstance(plug_in, str):
                return from_toml(cls, plug_in, f"hardware target {name!r} of a package")
            if plug_in is not None and not isinstance(plug_in, cls):
                raise InputError(f"hardware target {name!r} of a package is no TOML text, but {type(plug_in).__name__}")
            if plug_in is not None:
                return plug_in
        return load_toml(cls, name_or_path, _shipped_texts, "hardware target")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The targets that came with the package."""
        return tuple(_shipped_texts())

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON Schema of a target; it also lies beside this module as ``target.schema.json``."""
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **cls.model_json_schema()}


def _figures(fields: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """(value, default) of the figures that ``fields`` has, by key."""
    figures = {}
    for key in FIGURES:
        table, _, name = key.rpartition(".")
        table_class = type(fields[table]) if fields.get(table) else Target
        value = getattr(fields.get(table), name, None) if table else fields.get(name)
        if value is not None:
            figures[key] = (value, table_class.model_fields[name].default)
    return figures


def _shipped_texts() -> dict[str, str]:
    """The TOML text of every target that came with the package, by name in alphabetical order."""
    folder = resources.files("bitsearch").joinpath("cost", "targets")
    files = {entry.name: entry for entry in folder.iterdir() if entry.name.endswith(".toml")}
    return {name.removesuffix(".toml"): files[name].read_text(encoding="utf-8") for name in sorted(files)}
