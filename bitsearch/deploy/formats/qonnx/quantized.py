"""The graph with quantizers: a packed network's operations on real numbers, weights and spikes at their true widths.

What the packed file rounds to the unit of a current is left to float32 here: a spike may differ where a membrane comes
as near to an edge as float32 has room for.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np

from bitsearch.deploy.formats.qonnx.graph import INPUT, GraphBuilder, windows
from bitsearch.deploy.formats.qonnx.neurons import fired
from bitsearch.deploy.formats.qonnx.synapses import in_onnx_layout, weighted_sum
from bitsearch.deploy.integer.bounds import Range
from bitsearch.deploy.integer.fields import DECAY_FRACTION
from bitsearch.deploy.integer.operations import (
    Add,
    AnyOperation,
    AveragePool,
    Concatenate,
    Fire,
    MaxPool,
    Relu,
    Reshape,
    RunLayer,
    RunNeuron,
    RunSynapses,
    Scale,
    SumFrames,
)
from bitsearch.deploy.integer.operations.operation import OperationRanges
from bitsearch.deploy.integer.packed_file import PackedNetwork

if TYPE_CHECKING:
    import onnx

Frames = list[str]
"""A value's tensors by stored frame: frame f of F is the stored one with the number ⌊f·stored / F⌋."""


def quantized_model(packed: PackedNetwork) -> "onnx.ModelProto":
    """A packed network as a graph of ``Quant`` and ``BipolarQuant`` nodes, its time steps unrolled."""
    return _Quantized(packed).model()


class _Quantized:
    def __init__(self, packed: PackedNetwork) -> None:
        self.packed, self.graph = packed, GraphBuilder()
        self.weights: dict[str, str] = {}
        """By layer."""
        network_input = packed.program.input
        self.frames = network_input.frames or 1
        self.by_frame = network_input.frames is not None and not network_input.repeated

    def model(self) -> "onnx.ModelProto":
        import onnx

        graph, network_input = self.graph, self.packed.program.input
        values = [self._input()]
        for operation, ranges in zip(self.packed.program.operations, self.packed.analysis.operations, strict=True):
            graph.scope = operation.name
            values.append(_RULES[type(operation)](self, operation, ranges, [values[v] for v in operation.inputs]))
        (output,) = values[-1]
        graph.end(output)
        shape = (*[self.frames] * self.by_frame, *network_input.shape)
        return graph.model(self.packed, shape, onnx.TensorProto.FLOAT)

    def _input(self) -> Frames:
        """⌊x·2^f + ½⌋·2^−f, saturated; of ``[N, F, ...]`` frame by frame."""
        graph, network_input = self.graph, self.packed.program.input
        graph.scope, unit, largest = "input", 2.0**-network_input.fraction, network_input.largest
        x, bits = graph.plus(INPUT, unit / 2), largest.bit_length() + 1
        if largest & (largest + 1):
            x = graph.node("Clip", x, graph.constant(-largest * unit), graph.constant(largest * unit))
        x = graph.quant(x, unit, bits, signed=True, narrow=True, rounding="FLOOR")
        if not self.by_frame:
            return [x]
        frames = (graph.constant(frame, np.int64) for frame in range(self.frames))
        return [graph.node("Gather", x, frame, axis=1) for frame in frames]

    def _at(self, value: Frames, frame: int) -> str:
        return value[frame * len(value) // self.frames]

    def _each(self, inputs: Sequence[Frames], function: Callable[..., str]) -> Frames:
        """A function of as many tensors as there are inputs, of all their frames."""
        stored = {len(value) for value in inputs} - {1}
        count = self.frames if len(stored) > 1 else max(stored, default=1)
        # The first that shows each of them.
        frames = [-(-step * self.frames // count) for step in range(count)]
        return [function(*(self._at(value, frame) for value in inputs)) for frame in frames]

    def _spikes(self, layer_name: str, value: Frames) -> Frames:
        """Σ code_t·s_t of a layer's neuron, with frames every code_t·s_t."""
        layer, numbers = self.packed.program.layers[layer_name], self.packed.numbers[layer_name]
        currents = value * layer.time_steps if layer.frames is None else self._bins(value, layer.bins)
        spikes = fired(self.graph, layer, numbers, currents)
        return [self.graph.total(spikes)] if layer.frames is None else spikes

    def _unit(self, layer_name: str) -> float:
        """What its spikes are whole multiples of."""
        numbers, layer = self.packed.numbers[layer_name], self.packed.program.layers[layer_name]
        return gcd(*numbers.steps.tolist()) * 2.0**-layer.step_fraction

    def _bins(self, value: Frames, bins: Sequence[tuple[int, int]]) -> Frames:
        """The mean of every bin's frames."""
        graph, means = self.graph, []
        for first, end in bins:
            tensors = [self._at(value, frame) for frame in range(first, end)]
            same = all(tensor == tensors[0] for tensor in tensors)
            means.append(tensors[0] if same else graph.times(graph.total(tensors), 1 / (end - first)))
        return means

    def _synapses(self, layer_name: str, unit: float, x: str) -> str:
        """The layer's output for whole multiples of a unit."""
        graph, layer = self.graph, self.packed.program.layers[layer_name]
        numbers = self.packed.numbers[layer_name]
        if layer_name not in self.weights:
            levels = graph.constant(in_onnx_layout(layer, numbers.levels))
            if layer.weight_bits == 1:
                self.weights[layer_name] = graph.node("BipolarQuant", levels, graph.constant(1))
            else:
                self.weights[layer_name] = graph.quant(
                    levels, 1, layer.weight_bits, signed=True, narrow=True, rounding="ROUND"
                )
        sums = weighted_sum(graph, layer, x, self.weights[layer_name])
        gain = numbers.multiplier * 2.0 ** (-layer.shift - layer.fraction) / unit
        bias = numbers.bias * 2.0**-layer.fraction
        if not layer.kernel:
            return graph.plus(graph.times(sums, gain), bias)
        # Readers that put channels last know where this one's are.
        statistics = (gain, bias, np.zeros_like(gain), np.ones_like(gain))
        return graph.node("BatchNormalization", sums, *map(graph.constant, statistics), epsilon=0.0)

    def layer(self, run: RunLayer, _: OperationRanges, inputs: Sequence[Frames]) -> Frames:
        return [self._synapses(run.layer, self._unit(run.layer), x) for x in self._spikes(run.layer, inputs[0])]

    def neuron(self, run: RunNeuron, _: OperationRanges, inputs: Sequence[Frames]) -> Frames:
        spikes, unit = self._spikes(run.layer, inputs[0]), self._unit(run.layer)
        # A quotient of two whole multiples of one power of two that is whole: float32 has it exactly.
        return [x if unit == 1 else self.graph.node("Div", x, self.graph.constant(unit)) for x in spikes]

    def synapses(self, run: RunSynapses, ranges: OperationRanges, inputs: Sequence[Frames]) -> Frames:
        layer, (value,) = self.packed.program.layers[run.layer], inputs
        if layer.frames is not None:
            steps = range(layer.time_steps)
            value = [self._at(value, -(-t * self.frames // layer.time_steps)) for t in steps]
        return [self._synapses(run.layer, 2.0 ** -ranges.inputs[0].fraction, x) for x in value]

    def _rounded(self, value: Range, x: str) -> str:
        """To the nearest unit of a value, ties upward."""
        unit = 2.0**-value.fraction
        nearest = self.graph.plus(x, unit / 2)
        return self.graph.quant(nearest, unit, value.bits, signed=True, narrow=False, rounding="FLOOR")

    def scale(self, scale: Scale, ranges: OperationRanges, inputs: Sequence[Frames]) -> Frames:
        factor = scale.multiplier * 2.0 ** -(scale.shift + scale.finer)
        scaled = self._each(inputs, partial(self.graph.times, factor=factor))
        return scaled if scale.shift == 0 else [self._rounded(ranges.result, x) for x in scaled]

    def max_pool(self, pool: MaxPool, _: OperationRanges, inputs: Sequence[Frames]) -> Frames:
        return self._each(inputs, partial(self.graph.node, "MaxPool", dilations=list(pool.dilation), **windows(pool)))

    def average_pool(self, pool: AveragePool, ranges: OperationRanges, inputs: Sequence[Frames]) -> Frames:
        """The sum over ones, as a convolution of each channel, over k: with channels last, readers have no average."""
        graph, channels = self.graph, ranges.inputs[0].shape[0]
        ones = graph.constant(np.ones((channels, 1, *pool.kernel)))
        weight = graph.quant(ones, 1, 1, signed=False, narrow=False, rounding="ROUND")
        total = partial(graph.node, "Conv", group=channels, dilations=[1] * len(pool.kernel), **windows(pool))
        means = self._each(inputs, lambda x: graph.times(total(x, weight), 1 / pool.window))
        return means if pool.window == 1 << pool.finer else [self._rounded(ranges.result, x) for x in means]

    def relu(self, _: Relu, __: OperationRanges, inputs: Sequence[Frames]) -> Frames:
        return self._each(inputs, partial(self.graph.node, "Relu"))

    def add(self, _: Add, __: OperationRanges, inputs: Sequence[Frames]) -> Frames:
        return self._each(inputs, partial(self.graph.node, "Add"))

    def concatenate(self, _: Concatenate, __: OperationRanges, inputs: Sequence[Frames]) -> Frames:
        return self._each(inputs, partial(self.graph.node, "Concat", axis=1))

    def reshape(self, reshape: Reshape, ranges: OperationRanges, inputs: Sequence[Frames]) -> Frames:
        if reshape.shape == ranges.inputs[0].shape:
            return inputs[0]
        return self._each(inputs, partial(self.graph.reshaped, shape=reshape.shape))

    def fire(self, fire: Fire, ranges: OperationRanges, inputs: Sequence[Frames]) -> Frames:
        """1 where the membrane reaches the threshold: half of the sum of 1 and a bipolar number."""
        graph = self.graph
        threshold, decay = fire.threshold * 2.0 ** -ranges.inputs[0].fraction, fire.decay * 2.0**-DECAY_FRACTION
        spikes: Frames = []
        membrane = ""
        for frame in range(self.frames):
            current = self._at(inputs[0], frame)
            membrane = graph.node("Add", membrane, current) if spikes else current
            sign = graph.node("BipolarQuant", graph.plus(membrane, -threshold), graph.constant(1))
            spikes.append(graph.times(graph.plus(sign, 1), 0.5))
            taken = graph.node("Mul", membrane, spikes[-1]) if fire.hard else graph.times(spikes[-1], threshold)
            membrane = graph.times(graph.node("Sub", membrane, taken), decay)
        return spikes

    def sum_frames(self, _: SumFrames, __: OperationRanges, inputs: Sequence[Frames]) -> Frames:
        """Their mean, which is the prediction."""
        total = self.graph.total([self._at(inputs[0], frame) for frame in range(self.frames)])
        return [self.graph.times(total, 1 / self.frames)]


_RULES: dict[type[AnyOperation], Callable[[_Quantized, Any, OperationRanges, Sequence[Frames]], Frames]] = {
    RunLayer: _Quantized.layer,
    RunNeuron: _Quantized.neuron,
    RunSynapses: _Quantized.synapses,
    Relu: _Quantized.relu,
    Scale: _Quantized.scale,
    MaxPool: _Quantized.max_pool,
    AveragePool: _Quantized.average_pool,
    Add: _Quantized.add,
    Concatenate: _Quantized.concatenate,
    Reshape: _Quantized.reshape,
    Fire: _Quantized.fire,
    SumFrames: _Quantized.sum_frames,
}
"""By operation."""
