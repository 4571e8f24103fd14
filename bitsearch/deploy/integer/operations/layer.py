"""The operation that runs a quantized layer: spikes, their sum over integer weights, and an affine map."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from bitsearch.deploy.integer.bounds import NeuronWidths, Range, check_width
from bitsearch.deploy.integer.fields import Value
from bitsearch.deploy.integer.operations.layer_neuron import float64_spikes, integer_spikes, membrane_bound
from bitsearch.deploy.integer.operations.operation import (
    Float64Evaluation,
    IntegerEvaluation,
    Operation,
    ProgramContext,
)
from bitsearch.deploy.integer.operations.windows import window_counts
from bitsearch.deploy.integer.packed_layer import LayerNumbers, PackedLayer, accumulator_bound, max_code_sum
from bitsearch.deploy.integer.rounding import half, rounded
from bitsearch.deploy.integer.transposed import spread_counts
from bitsearch.errors import InputError
from bitsearch.quant.frames import hold_frames
from bitsearch.validation import Name


class RunLayer(Operation):
    """A layer's output for a current; linear layers work on its last axis, others on ``[C, L]`` or ``[C, H, W]``.

    A layer may run several times in a network; :class:`.PackedLayer` says what it computes.
    """

    op: Literal["layer"] = "layer"
    inputs: tuple[Value]
    layer: Name
    spiking: ClassVar[bool] = True

    def widths(self, inputs: Sequence[Range], program: ProgramContext) -> NeuronWidths:
        """Of the neuron, the sum and its products."""
        layer, numbers = program.layers[self.layer], program.numbers[self.layer]
        membrane, fraction = membrane_bound(self.name, layer, numbers, inputs[0])
        accumulator = accumulator_bound(layer, numbers)
        check_width(self.name, accumulator)
        factor = int(np.abs(numbers.multiplier.astype(np.int64)).max(initial=0))
        product = accumulator * factor + half(layer.shift)
        check_width(self.name, product)
        return NeuronWidths(membrane, fraction, accumulator, product)

    def bounds(self, inputs: Sequence[Range], program: ProgramContext) -> Range:
        """Of the output, whose products :meth:`widths` has found to fit 64 bits."""
        layer, numbers = program.layers[self.layer], program.numbers[self.layer]
        low, high = _output_bounds(layer, numbers)
        return Range(self._shape(layer, inputs[0].shape, program.most_elements), layer.fraction, low, high)

    def _shape(self, layer: PackedLayer, shape: tuple[int, ...], most_elements: int) -> tuple[int, ...]:
        channels = layer.weight_shape[1] * layer.groups
        axis = 0 if layer.kernel else -1
        if shape[axis] != channels:
            raise InputError(f"{self.name}: an input of shape {shape} has {shape[axis]} channels, not {channels}")
        if not layer.kernel:
            return (*shape[:-1], layer.outputs)
        if layer.output_padding is not None:
            counts = spread_counts(self.name, shape, layer, layer.output_padding, most_elements)
            return (layer.outputs, *counts)
        counts = window_counts(
            self.name,
            shape,
            kernel=layer.kernel,
            stride=layer.stride,
            padding=layer.padding,
            dilation=layer.dilation,
            most_elements=most_elements,
        )
        return (layer.outputs, *counts[1:])

    def integers(self, inputs: Sequence[Tensor], evaluation: IntegerEvaluation) -> Tensor:
        """In the types that :class:`.LayerTensors` chooses."""
        tensors = evaluation.tensors[self.layer]
        (x_range,), widths = evaluation.ranges.inputs, evaluation.ranges.widths
        assert widths is not None
        spikes = integer_spikes(tensors, inputs[0], x_range, widths, evaluation.observer)
        total = tensors.sum(spikes)
        evaluation.observer("accumulator", 0, total)
        return _in_frames(tensors.affine(total, evaluation.ranges.dtype), tensors.layer)

    def float64(self, inputs: Sequence[Tensor], evaluation: Float64Evaluation) -> Tensor:
        """The network's own convolution or product of the spikes; its batch norm is in the affine map."""
        program, (x_range,), widths = evaluation.ranges.program, evaluation.ranges.inputs, evaluation.ranges.widths
        assert widths is not None
        layer, numbers = program.layers[self.layer], program.numbers[self.layer]
        spikes = float64_spikes(layer, numbers, inputs[0], x_range, widths, evaluation.observer)
        multiplier = torch.from_numpy(numbers.multiplier).double() * 2.0 ** -(layer.shift + layer.fraction)
        bias = torch.from_numpy(numbers.bias).double() * 2.0**-layer.fraction
        scaled = evaluation.module(spikes) * multiplier.view(layer.channel_shape)
        return _in_frames(rounded(scaled, layer.fraction) + bias.view(layer.channel_shape), layer)


def _output_bounds(layer: PackedLayer, numbers: LayerNumbers) -> tuple[int, int]:
    """The least and the largest output."""
    unit = max_code_sum(layer, numbers.spike_weights)
    levels = numbers.levels.reshape(layer.outputs, -1).astype(np.int64)
    highest, lowest = np.clip(levels, 0, None).sum(1), np.clip(levels, None, 0).sum(1)
    if layer.signed:
        highest, lowest = highest - lowest, lowest - highest
    multiplier, bias = numbers.multiplier.astype(np.int64), numbers.bias.astype(np.int64)
    ends = np.stack([highest * unit * multiplier, lowest * unit * multiplier])
    outputs = ((ends + half(layer.shift)) >> layer.shift) + bias
    return int(outputs.min()), int(outputs.max())


def _in_frames(outputs: Tensor, layer: PackedLayer) -> Tensor:
    """``[T·N, ...]`` of a layer with frames as ``[F·N, ...]``, every output held over its frames."""
    if layer.frames is None:
        return outputs
    return hold_frames(outputs.unflatten(0, (layer.time_steps, -1)), layer.frames).flatten(0, 1)
