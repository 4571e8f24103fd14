"""The tables of a hardware target: memory, cores, energy, time, and what it requires of the first or last layer."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bitsearch.choices import Span
from bitsearch.cost.units import Bytes, Hertz, Picojoules, PositivePicojoules, Seconds
from bitsearch.validation import MAX_BITS, Bits, Count, Frozen, Positive, TimeSteps


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


Widths = Annotated[
    tuple[Bits, ...],
    Field(min_length=1, strict=False),
    BeforeValidator(_expand_range, json_schema_input_type=Annotated[tuple[Bits, ...], Field(min_length=1)] | Span),
    AfterValidator(_check_rising),
]
"""Bit widths in rising order; ``{low = 1, high = 8}`` stands for all from 1 to 8."""


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

    weight_bytes: Bytes | None = None
    """Bytes for the stored weights, step sizes, multipliers and biases."""
    working_bytes: Bytes | None = None
    """Bytes for membrane potentials and spikes."""


class Cores(TargetTable):
    """Cores with separate memories for a layer's weights and states; a layer that needs more takes several cores."""

    count: Count
    """Cores on the chip."""
    bytes_each: Bytes
    """Bytes of memory of one core."""


class Energy(TargetTable):
    """Energy of single operations, for an estimate of the energy of one input."""

    bit_operation: Picojoules = 0.0
    """pJ a bit operation, a MAC of one weight bit and one spike bit; a MAC of w and s bits has w·s."""
    accumulate: Picojoules = 0.0
    """pJ to add one product to a membrane potential, once a MAC and time step, whatever its bits."""
    weight_byte: Picojoules = 0.0
    """pJ a byte of weights read."""
    state_byte: Picojoules = 0.0
    """pJ a byte of membrane potentials or spikes moved."""
    event_driven: bool = False
    """True if only non-zero spikes cost operations; the estimate then needs firing rates."""
    limit: PositivePicojoules | None = None
    """Most pJ that one input may take; every plan keeps to it."""

    @model_validator(mode="after")
    def _costs_something(self) -> "Energy":
        if not (self.bit_operation or self.accumulate or self.weight_byte or self.state_byte):
            raise ValueError("every operation is free; give one of them more than 0 pJ, or leave the table out")
        return self


class Latency(TargetTable):
    """Time of the operations, for an estimate of the time of one input; layers run one after another."""

    clock: Hertz
    """Hz."""
    bit_operations_per_cycle: Positive | None = None
    """Bit operations a cycle, on hardware where fewer bits take less time."""
    macs_per_cycle: Positive | None = None
    """MACs a cycle, on hardware where a MAC takes the same time at any width."""
    layer_overhead_cycles: int = Field(default=0, ge=0)
    """Additional cycles of every layer."""
    limit: Seconds | None = None
    """Most seconds that one input may take; every plan keeps to it."""

    @model_validator(mode="after")
    def _one_speed(self) -> "Latency":
        if (self.bit_operations_per_cycle is None) == (self.macs_per_cycle is None):
            raise ValueError("give exactly one of bit_operations_per_cycle and macs_per_cycle")
        return self
