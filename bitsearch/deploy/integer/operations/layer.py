"""The operation that runs a quantized layer: spikes, their sum over integer weights, and an affine map."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor

from bitsearch.deploy.integer.bounds import NeuronWidths, Range
from bitsearch.deploy.integer.fields import Value
from bitsearch.deploy.integer.operations.layer_neuron import float64_spikes, integer_spikes, membrane_bound
from bitsearch.deploy.integer.operations.layer_sums import (
    affine_float64,
    held,
    output_bounds,
    output_shape,
    sum_bounds,
)
from bitsearch.deploy.integer.operations.operation import (
    Float64Evaluation,
    IntegerEvaluation,
    Operation,
    ProgramContext,
)
from bitsearch.deploy.integer.packed_layer import max_code_sum
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
        largest = max_code_sum(layer, numbers.spike_weights)
        return NeuronWidths(membrane, fraction, *sum_bounds(self.name, layer, numbers, largest))

    def bounds(self, inputs: Sequence[Range], program: ProgramContext) -> Range:
        """Of the output, whose products :meth:`widths` has found to fit 64 bits."""
        layer, numbers = program.layers[self.layer], program.numbers[self.layer]
        largest = max_code_sum(layer, numbers.spike_weights)
        low, high = output_bounds(layer, numbers, -largest if layer.signed else 0, largest)
        shape = output_shape(self.name, layer, inputs[0].shape, program.most_elements)
        return Range(shape, layer.fraction, low, high)

    def integers(self, inputs: Sequence[Tensor], evaluation: IntegerEvaluation) -> Tensor:
        """In the types that :class:`.LayerTensors` chooses."""
        tensors = evaluation.tensors[self.layer]
        (x_range,), widths = evaluation.ranges.inputs, evaluation.ranges.widths
        assert widths is not None
        spikes = integer_spikes(
            tensors.layer, tensors.numbers, tensors.dtype, inputs[0], x_range, widths, evaluation.observer
        )
        total = tensors.sum(spikes)
        evaluation.observer("accumulator", 0, total)
        return held(tensors.affine(total, evaluation.ranges.dtype), tensors.layer)

    def float64(self, inputs: Sequence[Tensor], evaluation: Float64Evaluation) -> Tensor:
        """The network's own convolution or product of the spikes; its batch norm is in the affine map."""
        program, (x_range,), widths = evaluation.ranges.program, evaluation.ranges.inputs, evaluation.ranges.widths
        assert widths is not None
        layer, numbers = program.layers[self.layer], program.numbers[self.layer]
        spikes = float64_spikes(layer, numbers, inputs[0], x_range, widths, evaluation.observer)
        return held(affine_float64(evaluation.module(spikes), layer, numbers), layer)
