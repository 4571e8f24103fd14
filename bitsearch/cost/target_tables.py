"""The tables of a hardware target: memory, cores, energy, time, and what it requires of layers and of the network."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bitsearch.choices import Span
from bitsearch.cost.units import Bytes, Hertz, Picojoules, PositivePicojoules, Seconds
from bitsearch.validation import MAX_BITS, Bits, Count, Frozen, Positive, TimeSteps


def _expand(largest: int) -> Callable[[object], object]:
    def expand_range(value: object) -> object:
        if isinstance(value, list | tuple):
            return value
        try:
            span = Span.model_validate(value, strict=True)
        except ValidationError as error:
            raise ValueError("list the values, such as [1, 2, 4], or give low and high, low not above high") from error
        return tuple(range(span.low, min(span.high, largest + 1) + 1))

    return expand_range


def _check_rising(values: tuple[int, ...]) -> tuple[int, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError("list every value once, in rising order")
    return values


def _values(number: Any) -> Any:
    return Annotated[tuple[number, ...], Field(min_length=1)] | Span


Widths = Annotated[
    tuple[Bits, ...],
    Field(min_length=1, strict=False),
    BeforeValidator(_expand(MAX_BITS), json_schema_input_type=_values(Bits)),
    AfterValidator(_check_rising),
]
"""Bit widths in rising order; ``{low = 1, high = 8}`` stands for all from 1 to 8."""
MAX_SIZE = 1024
"""Largest kernel and stride that a target may list."""
Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]
Sizes = Annotated[
    tuple[Size, ...],
    Field(min_length=1, strict=False),
    BeforeValidator(_expand(MAX_SIZE), json_schema_input_type=_values(Size)),
    AfterValidator(_check_rising),
]
"""Sizes of kernels, or strides, likewise."""
LayerKind = Literal["convolution", "depthwise", "transposed", "linear"]
"""``depthwise``: every channel of a convolution has kernels of its own."""


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
    bytes_each: Bytes | None = None
    """Bytes of memory of one core."""
    neurons_each: Count | None = None
    """Neurons of one core."""
    synapses_each: Count | None = None
    """Weights that one core stores."""
    whole_layers: bool = False
    """True where a layer has to fit one core."""

    @model_validator(mode="after")
    def _has_a_size(self) -> "Cores":
        if self.bytes_each is None and self.neurons_each is None and self.synapses_each is None:
            raise ValueError("give at least one of bytes_each, neurons_each, synapses_each, or leave the table out")
        return self


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


class Limits(NonEmptyTable):
    """What a network has to keep to, whatever its bits; every layer is checked before anything is trained."""

    layer_kinds: tuple[LayerKind, ...] | None = Field(default=None, min_length=1, strict=False)
    """Kinds of layers that the chip runs; what is no such layer, and keeps 32 bits, is refused as well."""
    layers: Count | None = None
    """Layers with weights."""
    neurons: Count | None = None
    """Neurons of the whole network, without those that encode its input."""
    synapses: Count | None = None
    """Weights of the whole network."""
    fan_in: Count | None = None
    """Inputs of one neuron."""
    fan_out: Count | None = None
    """Neurons that one neuron's spike goes to."""
    input_channels: Count | None = None
    """Channels, or features, of the network's input."""
    input_size: Count | None = None
    """Width, and height, of the network's input."""
    output_channels: Count | None = None
    """Channels, or features, of the network's output."""
    pooling: tuple[Literal["average", "max", "sum"], ...] | None = Field(default=None, strict=False)
    """Kinds of pooling; an empty list: none."""
    resets: tuple[Literal["subtract", "zero", "delayed"], ...] | None = Field(default=None, min_length=1, strict=False)
    """What a spike may take from a neuron's membrane, as in :class:`bitsearch.plan.NeuronSettings`; in layers of one
    time step, it makes no difference."""


class KindLimits(NonEmptyTable):
    """Limits of one kind of layer, ``[linear]``."""

    weight_bits: Widths | None = None
    """Bits that a weight may have, in place of the target's."""
    input_channels: Count | None = None
    """Most channels, or features, that a layer reads."""
    output_channels: Count | None = None
    """Most channels, or features, that it has."""


class ConvolutionLimits(KindLimits):
    """Those of layers with kernels: ``[convolution]``, ``[depthwise]`` and ``[transposed]``."""

    kernel_sizes: Sizes | None = None
    """Along every spatial axis."""
    strides: Sizes | None = None
    """Likewise."""
