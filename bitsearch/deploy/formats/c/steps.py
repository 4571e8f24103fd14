"""A program as the functions of a C file: where every value lies, in which integers, and what each operation needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

from bitsearch.deploy.formats.c.memory import Buffer, c_type, place
from bitsearch.deploy.integer.bounds import Range
from bitsearch.deploy.integer.operations import (
    Add,
    AnyOperation,
    AveragePool,
    Fire,
    Relu,
    Reshape,
    RunLayer,
    RunNeuron,
    RunSynapses,
    Scale,
    SumFrames,
)
from bitsearch.deploy.integer.operations.operation import OperationRanges
from bitsearch.deploy.integer.operations.stored_membrane import StoredCurrents
from bitsearch.deploy.integer.packed_file import PackedNetwork
from bitsearch.deploy.integer.packed_layer import LayerNumbers, PackedLayer, max_code_sum
from bitsearch.deploy.integer.rounding import half
from bitsearch.errors import InputError

MOST_TIME_STEPS = 1024
"""Of a layer: each is written out in lines of its own."""


@dataclass
class Value:
    """Where a value of the program lies."""

    range: Range
    steps: int
    """How many of its F frames are stored: frame f is the stored one with the number ⌊f·steps / F⌋."""
    type: str
    buffer: Buffer | None
    """Static memory; None for the caller's input."""

    @property
    def count(self) -> int:
        """Integers of a frame."""
        return prod(self.range.shape)


@dataclass(frozen=True)
class Step:
    """An operation with everything that its template reads."""

    index: int
    operation: AnyOperation
    inputs: Sequence[Value]
    result: Value
    ranges: OperationRanges
    layer: PackedLayer | None = None
    numbers: LayerNumbers | None = None
    layer_index: int | None = None
    """Of the layer whose multipliers and biases are read."""
    weight_index: int | None = None
    """Of the layer that the weights are stored for."""
    spikes: Buffer | None = None
    """What a layer's neurons send its weights."""
    levels: Buffer | None = None
    """The weights of one output channel."""

    @property
    def frames(self) -> int:
        """F; 1 without a time axis."""
        return self.ranges.program.frames

    @property
    def in_place(self) -> bool:
        """Whether the result lies where the input does."""
        return self.result.buffer is self.inputs[0].buffer

    @property
    def wide(self) -> str:
        """A type for all that an operation forms on its way to the result, and a layer on its way to its spikes."""
        operation, widths = self.operation, self.ranges.widths
        most = max(value.range.magnitude for value in self.inputs)
        if isinstance(operation, RunLayer | RunNeuron | Fire):
            assert widths is not None
            most = max(most, widths.membrane, operation.threshold if isinstance(operation, Fire) else 0)
        elif isinstance(operation, Scale):
            most = max(most * operation.multiplier + half(operation.shift), operation.multiplier)
        elif isinstance(operation, Add):
            finest = self.result.range.fraction
            most = max(value.range.magnitude << finest - value.range.fraction for value in self.inputs)
            most = max(most, self.result.range.magnitude)
        elif isinstance(operation, SumFrames):
            most = self.result.range.magnitude
        elif isinstance(operation, AveragePool):
            most = (most * operation.window << operation.finer + 1) + operation.window
        return c_type(-most, most, 32)

    @property
    def side_by_side(self) -> str:
        """Where number i of a layer's input stands once the channels of a group lie side by side, in C."""
        assert self.layer is not None
        channels, plane = self.layer.weight_shape[1], prod(self.inputs[0].range.shape[1:])
        if not self.layer.kernel or channels == 1 or plane == 1:
            return "i"
        return f"(i / {plane * channels} * {plane} + i % {plane}) * {channels} + i / {plane} % {channels}"

    @property
    def stored_frames_read(self) -> list[int]:
        """Of the input of weights alone, one for each stored frame of the result."""
        assert self.layer is not None
        stored = self.inputs[0].steps
        if self.layer.frames is None:
            return list(range(stored))
        return [-(-t * self.frames // self.result.steps) * stored // self.frames for t in range(self.result.steps)]

    @property
    def spike_sum(self) -> int:
        """The most that a neuron's spikes sum up to."""
        assert self.layer is not None
        assert self.numbers is not None
        return max_code_sum(self.layer, self.numbers.spike_weights)

    @property
    def accumulator(self) -> str:
        """The type of a layer's sums."""
        assert self.ranges.widths is not None
        most = self.spike_sum if isinstance(self.operation, RunLayer) else self.inputs[0].range.magnitude
        most = max(most, self.ranges.widths.accumulator or 0)
        return c_type(-most, most, 32)

    @property
    def stored(self) -> StoredCurrents | None:
        """How currents come into the unit of membranes that have a width."""
        assert self.layer is not None
        assert self.numbers is not None
        if self.layer.membrane_bits is None:
            return None
        return StoredCurrents.of(self.layer, self.numbers, self.inputs[0].range)

    def level(self, t: int) -> int:
        """The step size of time step t in the unit of its membrane."""
        assert self.layer is not None
        assert self.numbers is not None
        assert self.ranges.widths is not None
        if self.layer.membrane_bits is not None:
            return self.layer.membrane.units
        return int(self.numbers.steps[t]) << self.ranges.widths.membrane_fraction - self.layer.step_fraction

    @property
    def one_factor(self) -> int | None:
        """The power of two that every sum is multiplied by; None where channels have others."""
        assert self.layer is not None
        assert self.numbers is not None
        factors = set(self.numbers.multiplier.tolist())
        return factors.pop() if self.layer.scale is not None and len(factors) == 1 else None

    @property
    def product(self) -> str:
        """The type of a sum times its multiplier, and of the output."""
        assert self.ranges.widths is not None
        most = max(self.ranges.widths.product or 0, self.result.range.magnitude)
        return c_type(-most, most, 32)


@dataclass
class Plan:
    """All of a program."""

    values: list[Value]
    steps: list[Step] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    """Of the arrays of static memory, by type."""

    @property
    def output(self) -> Value:
        """The last value, which lies in the caller's memory."""
        return self.values[-1]


def plan_steps(packed: PackedNetwork) -> Plan:
    """Types and places of everything; InputError for a layer of more time steps than are written out."""
    operations, network_input = packed.program.operations, packed.program.input
    frames = 1 if network_input.repeated else network_input.frames or 1
    plan = Plan([Value(packed.analysis.values[0], frames, "int32_t", None)])
    last_uses = {value: index for index, operation in enumerate(operations) for value in operation.inputs}
    buffers: list[Buffer] = []
    for index, operation in enumerate(operations):
        inputs = [plan.values[value] for value in operation.inputs]
        last_use = last_uses.get(index + 1, len(operations))
        ranges = packed.analysis.operations[index]
        steps = _stored_steps(operation, ranges, inputs)
        buffer = inputs[0].buffer
        if buffer is not None and _stays(operation, buffer.last == index):
            buffer.last = max(buffer.last, last_use)
            result = Value(ranges.result, steps, inputs[0].type, buffer)
        else:
            kind = c_type(ranges.result.low, ranges.result.high)
            buffer = Buffer(kind, steps * prod(ranges.result.shape), index, last_use)
            result = Value(ranges.result, steps, kind, buffer)
            buffers.append(buffer)
        plan.values.append(result)
        plan.steps.append(_step(index, operation, inputs, result, ranges, packed))
        buffers += [buffer for buffer in (plan.steps[-1].spikes, plan.steps[-1].levels) if buffer is not None]
    plan.sizes = place(buffer for buffer in buffers if buffer is not plan.output.buffer)
    return plan


def _stored_steps(operation: AnyOperation, ranges: OperationRanges, inputs: list[Value]) -> int:
    if isinstance(operation, SumFrames):
        return 1
    if isinstance(operation, Fire):
        return ranges.program.frames
    if isinstance(operation, RunLayer | RunNeuron | RunSynapses):
        layer = ranges.program.layers[operation.layer]
        if layer.frames is not None:
            return layer.time_steps
    several = {value.steps for value in inputs} - {1}
    return ranges.program.frames if len(several) > 1 else max(several, default=1)


def _stays(operation: AnyOperation, last_use: bool) -> bool:
    """Whether the integers of a result stay where its input's are."""
    return isinstance(operation, Reshape) or (isinstance(operation, Relu) and last_use)


def _step(
    index: int,
    operation: AnyOperation,
    inputs: list[Value],
    result: Value,
    ranges: OperationRanges,
    packed: PackedNetwork,
) -> Step:
    if not isinstance(operation, RunLayer | RunNeuron | RunSynapses):
        return Step(index, operation, inputs, result, ranges)
    layer, names = packed.program.layers[operation.layer], list(packed.program.layers)
    if layer.time_steps > MOST_TIME_STEPS:
        raise InputError(f"{operation.name!r} has {layer.time_steps} time steps; C has at most {MOST_TIME_STEPS}")
    step = Step(
        index,
        operation,
        inputs,
        result,
        ranges,
        layer,
        packed.numbers[operation.layer],
        names.index(operation.layer),
        names.index(layer.weight_of or operation.layer),
    )
    if isinstance(operation, RunNeuron):
        return step
    levels = Buffer("int8_t", prod(layer.weight_shape[1:]), index, index)
    if isinstance(operation, RunLayer):
        most = step.spike_sum
        size = inputs[0].count * (1 if layer.frames is None else layer.time_steps)
        spikes = Buffer(c_type(-most if layer.signed else 0, most), size, index, index)
        return replace(step, levels=levels, spikes=spikes)
    moved = Buffer(inputs[0].type, inputs[0].count, index, index)
    return replace(step, levels=levels, spikes=None if step.side_by_side == "i" else moved)
