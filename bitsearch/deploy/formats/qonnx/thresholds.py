"""The graph with thresholds: convolutions of whole numbers, and neurons as ``MultiThreshold`` nodes between them.

A neuron whose current is static is a function of it, all time steps together, and batch norm and rectifier are one that
never falls: the least sum at which a code changes is a threshold of its channel. So nothing is rounded, and every
output is that of the packed file. Behind the last layer, what is left of it is done in float64, which is exact too.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bitsearch.deploy.formats.qonnx.exact import Exact, ExactNodes
from bitsearch.deploy.formats.qonnx.graph import INPUT, OUTPUT, GraphBuilder, windows
from bitsearch.deploy.formats.qonnx.levels import Levels, first_reaching, neuron_levels, weighted_levels
from bitsearch.deploy.formats.qonnx.sums import Affine, Rectifier, Sums, concatenated
from bitsearch.deploy.formats.qonnx.synapses import in_onnx_layout, weighted_sum
from bitsearch.deploy.integer.bounds import signed_bits
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
)
from bitsearch.deploy.integer.operations.operation import OperationRanges
from bitsearch.deploy.integer.packed_file import PackedNetwork
from bitsearch.errors import InputError

if TYPE_CHECKING:
    import onnx

MOST = 1 << 24
"""No whole number in float32, which QONNX's executor holds them in, reaches this."""
MOST_LEVELS = 1 << 10
"""Of all time steps of a neuron together in one node; where there are more, each time step has its own."""


def threshold_model(packed: PackedNetwork) -> "onnx.ModelProto":
    """A packed network as convolutions and products of whole numbers and ``MultiThreshold`` nodes.

    Raises:
        InputError: what thresholds of sums cannot express; names the operation and says what to do.
    """
    return _Thresholds(packed).model()


def _refused(name: str, reason: str) -> InputError:
    return InputError(f"{name!r} cannot be expressed in thresholds: {reason}")


class _Thresholds:
    def __init__(self, packed: PackedNetwork) -> None:
        self.packed, self.graph = packed, GraphBuilder()
        self.exactly = ExactNodes(self.graph)
        if packed.program.input.frames is not None:
            raise _refused(
                packed.program.operations[0].name,
                "its membrane adds up currents of several frames, and a threshold sees one; leave --thresholds out",
            )

    def model(self) -> "onnx.ModelProto":
        import onnx

        network_input = self.packed.program.input
        largest = network_input.largest
        values: list[Sums | Exact] = [
            Sums(INPUT, network_input.shape[0], -largest, largest, fraction=network_input.fraction)
        ]
        for operation, ranges in zip(self.packed.program.operations, self.packed.analysis.operations, strict=True):
            self.graph.scope = operation.name
            inputs = [values[value] for value in operation.inputs]
            values.append(_RULES[type(operation)](self, operation, ranges, inputs))
        self.graph.scope, result = "output", self.packed.analysis.values[-1]
        output = self._exact(operation.name, values[-1], result.shape)
        self.graph.node("Mul", output.name, self.graph.constant(2.0**-result.fraction, np.float64), output=OUTPUT)
        return self.graph.model(self.packed, network_input.shape, onnx.TensorProto.DOUBLE)

    def layer(self, run: RunLayer, ranges: OperationRanges, inputs: Sequence[Any]) -> Sums:
        spikes, _, _ = self._spikes(run.name, run.layer, ranges, inputs[0])
        return self._sums(run, ranges, spikes)

    def neuron(self, run: RunNeuron, ranges: OperationRanges, inputs: Sequence[Any]) -> Sums:
        spikes, low, high = self._spikes(run.name, run.layer, ranges, inputs[0])
        name = self.graph.times(spikes, 1 << run.finer)
        return Sums(name, ranges.result.shape[0], low << run.finer, high << run.finer)

    def synapses(self, run: RunSynapses, ranges: OperationRanges, inputs: Sequence[Any]) -> Sums:
        (x,) = inputs
        if isinstance(x, Exact) or not x.whole:
            raise _refused(
                run.name, "what its weights read is rounded behind the neurons; scale and average nothing there"
            )
        return self._sums(run, ranges, x.name)

    def _sums(self, run: RunLayer | RunSynapses, ranges: OperationRanges, x: str) -> Sums:
        """Of whole numbers over the layer's weights, whose signs are those of its channels' multipliers."""
        layer, numbers = ranges.program.layers[run.layer], ranges.program.numbers[run.layer]
        assert ranges.widths is not None
        most = ranges.widths.accumulator or 0
        if most >= MOST:
            raise _refused(
                run.name,
                f"its sums take {signed_bits(-most, most)} bits, and QONNX's executor holds {MOST.bit_length()}; give "
                "all its time steps one step size (--share-steps), or fewer bits",
            )
        if not layer.kernel and len(ranges.result.shape) > 1:
            raise _refused(run.name, "it is a linear layer over rows, whose channels are last; flatten its input")
        signs = np.where(numbers.multiplier < 0, -1, 1).astype(np.int8).reshape(-1, *[1] * (numbers.levels.ndim - 1))
        kind = "BIPOLAR" if layer.weight_bits == 1 else f"INT{layer.weight_bits}"
        weight = self.graph.constant(in_onnx_layout(layer, numbers.levels * signs), kind=kind)
        name = weighted_sum(self.graph, layer, x, weight)
        return Sums(name, layer.outputs, -most, most, (Affine.of_layer(layer, numbers),))

    def _spikes(self, name: str, layer_name: str, ranges: OperationRanges, x: Sums | Exact) -> tuple[str, int, int]:
        """Σ n_t·code_t of a layer's neuron, and the least and the largest that it can be."""
        if isinstance(x, Exact):
            raise _refused(name, f"its neurons read {x.reason}; let neurons fire in front of that, or take maxima")
        steps, weights = neuron_levels(name, layer_name, ranges), ranges.program.numbers[layer_name].spike_weights
        total = weighted_levels(steps, weights)
        low, high = total.range
        if max(-low, high) >= MOST:
            raise _refused(name, "its time steps have step sizes too unlike; give them one (--share-steps)")
        if int(total.jumps.abs().sum()) <= MOST_LEVELS:
            return self._fired(x, total), low, high
        parts = [self.graph.times(self._fired(x, one), weight) for one, weight in zip(steps, weights, strict=True)]
        return self.graph.total(parts), low, high

    def _fired(self, x: Sums, levels: Levels) -> str:
        """One step function of the currents of ``x``, as one node, or as two where it also falls."""
        graph, rising, falling = self.graph, levels.rising, levels.falling
        kinds = [_integer_kind(levels.base, levels.base + len(rising)), _integer_kind(0, len(falling))]
        node = graph.node(
            "MultiThreshold", x.name, self._reaching(x, rising), out_bias=float(levels.base), out_dtype=kinds[0]
        )
        if not len(falling):
            return node
        return graph.node(
            "Sub", node, graph.node("MultiThreshold", x.name, self._reaching(x, falling), out_dtype=kinds[1])
        )

    def _reaching(self, x: Sums, currents: Tensor) -> str:
        """The constant ``[C or 1, n]`` of what the tensor has to reach for its currents to reach these."""
        if not len(currents):
            # A node has a threshold; nothing reaches this one.
            currents = torch.tensor([torch.iinfo(torch.int64).max])
        goals = currents[:, None].expand(-1, x.channels if x.steps else 1)
        low, high = torch.full_like(goals, x.low), torch.full_like(goals, x.high)
        whole = first_reaching(x.currents, goals, low, high).T
        if len(whole) > 1 and bool((whole == whole[0]).all()):
            whole = whole[:1]
        if x.fraction is None:
            return self.graph.constant(whole.numpy(), kind=_integer_kind(x.low, x.high + 1))
        return self.graph.constant(_encoded_from(whole.numpy(), x))

    def relu(self, _: Relu, __: OperationRanges, inputs: Sequence[Any]) -> Sums | Exact:
        x: Sums | Exact = inputs[0]
        if isinstance(x, Exact):
            return replace(x, name=self.graph.node("Relu", x.name))
        if not x.whole:
            return x.then(Rectifier())
        return replace(x, name=self.graph.node("Relu", x.name), low=max(x.low, 0), high=max(x.high, 0))

    def scale(self, scale: Scale, _: OperationRanges, inputs: Sequence[Any]) -> Sums | Exact:
        x: Sums | Exact = inputs[0]
        if isinstance(x, Exact):
            return replace(x, name=self.exactly.rescaled(x.name, scale.multiplier, scale.shift))
        return x.then(Affine.of_all(x.channels, scale.multiplier, scale.shift))

    def max_pool(self, pool: MaxPool, _: OperationRanges, inputs: Sequence[Any]) -> Sums | Exact:
        x: Sums | Exact = inputs[0]
        return replace(x, name=self.graph.node("MaxPool", x.name, dilations=list(pool.dilation), **windows(pool)))

    def average_pool(self, pool: AveragePool, ranges: OperationRanges, inputs: Sequence[Any]) -> Sums | Exact:
        (x,), count = inputs, pool.window
        if isinstance(x, Sums) and x.whole and count == 1 << pool.finer and x.high * count < MOST:
            mean = self.graph.node("AveragePool", x.name, count_include_pad=1, **windows(pool))
            return replace(x, name=self.graph.times(mean, count), low=x.low * count, high=x.high * count)
        shape = ranges.inputs[0].shape
        exact = self._exact(pool.name, x, shape, "an average of rounded currents")
        if tuple(pool.kernel) != shape[1:] or any(pool.padding):
            raise _refused(pool.name, "it averages rounded currents; let neurons fire in front of it, or take maxima")
        return self.exactly.mean(exact, len(pool.kernel), count, pool.finer)

    def add(self, join: Add, ranges: OperationRanges, inputs: Sequence[Any]) -> Sums | Exact:
        places = [ranges.result.fraction - value.fraction for value in ranges.inputs]
        if all(isinstance(x, Sums) and x.whole for x in inputs) and ranges.result.magnitude < MOST:
            terms = [self.graph.times(x.name, 1 << shift) for x, shift in zip(inputs, places, strict=True)]
            return Sums(self.graph.total(terms), inputs[0].channels, ranges.result.low, ranges.result.high)
        reason = "a sum of rounded currents"
        parts = [self._exact(join.name, x, ranges.result.shape, reason) for x in inputs]
        terms = [self.exactly.times(part.name, 1 << shift) for part, shift in zip(parts, places, strict=True)]
        return Exact(self.graph.total(terms), reason)

    def concatenate(self, join: Concatenate, ranges: OperationRanges, inputs: Sequence[Any]) -> Sums:
        places = [ranges.result.fraction - value.fraction for value in ranges.inputs]
        if not all(isinstance(x, Sums) for x in inputs):
            raise _refused(join.name, "it joins sums and averages of rounded currents")
        parts = [
            x.then(Affine.of_all(x.channels, 1 << shift)) if any(places) else x
            for x, shift in zip(inputs, places, strict=True)
        ]
        joined = concatenated(self.graph.node("Concat", *(part.name for part in parts), axis=1), parts)
        if joined is None:
            raise _refused(join.name, "it joins a layer's currents with what is rectified or scaled, or with the input")
        return joined

    def reshape(self, reshape: Reshape, ranges: OperationRanges, inputs: Sequence[Any]) -> Sums | Exact:
        x: Sums | Exact = inputs[0]
        before = ranges.inputs[0].shape
        if reshape.shape == before:
            return x
        node = self.graph.reshaped(x.name, reshape.shape)
        if isinstance(x, Exact):
            return replace(x, name=node)
        if len(reshape.shape) == 1:
            return x.flattened(node, prod(before[1:]))
        if reshape.shape[0] != before[0] and x.steps:
            raise _refused(reshape.name, f"it moves channels: {before} becomes {reshape.shape}")
        return replace(x, name=node, channels=reshape.shape[0])

    def fire(self, fire: Fire, _: OperationRanges, inputs: Sequence[Any]) -> Sums:
        (x,) = inputs
        if isinstance(x, Exact):
            raise _refused(fire.name, f"it reads {x.reason}")
        spikes = self._fired(x, Levels(0, torch.tensor([fire.threshold]), torch.tensor([1])))
        return Sums(spikes, x.channels, 0, 1)

    def _exact(self, name: str, x: Sums | Exact, shape: tuple[int, ...], reason: str = "") -> Exact:
        """The currents themselves, whose shape this is."""
        if isinstance(x, Sums) and x.fraction is not None:
            raise _refused(name, "it reads the network's own input; begin with a layer")
        return replace(self.exactly.of(x, len(shape)), reason=reason)


def _integer_kind(low: int, high: int) -> str:
    """The narrowest type of integers, as QONNX names them."""
    return f"UINT{max(high.bit_length(), 1)}" if low >= 0 else f"INT{signed_bits(low, high)}"


def _encoded_from(whole: npt.NDArray[np.int64], x: Sums) -> npt.NDArray[np.float32]:
    """The least float32 inputs whose encoding reaches whole numbers: of K, what is at least (K − ½)·2^−fraction."""
    assert x.fraction is not None
    exact = (whole - 0.5) * 2.0**-x.fraction
    nearest = exact.astype(np.float32)
    thresholds = np.where(nearest < exact, np.nextafter(nearest, np.float32(np.inf)), nearest)
    # The encoding saturates.
    largest = np.finfo(np.float32).max
    return np.where(whole > x.high, largest, np.where(whole <= x.low, -largest, thresholds)).astype(np.float32)


_RULES: dict[type[AnyOperation], Callable[[_Thresholds, Any, OperationRanges, Sequence[Any]], Sums | Exact]] = {
    RunLayer: _Thresholds.layer,
    RunNeuron: _Thresholds.neuron,
    RunSynapses: _Thresholds.synapses,
    Relu: _Thresholds.relu,
    Scale: _Thresholds.scale,
    MaxPool: _Thresholds.max_pool,
    AveragePool: _Thresholds.average_pool,
    Add: _Thresholds.add,
    Concatenate: _Thresholds.concatenate,
    Reshape: _Thresholds.reshape,
    Fire: _Thresholds.fire,
}
"""By operation; the sum over frames is of programs that have some."""
