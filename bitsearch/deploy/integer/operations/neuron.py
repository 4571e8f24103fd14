"""The operation that runs a layer's neuron alone, where pooling, sums or concatenation work on what it sends."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from bitsearch.deploy.integer.bounds import NeuronWidths, Range, check_width, integer_type
from bitsearch.deploy.integer.fields import Value
from bitsearch.deploy.integer.operations.layer_neuron import float64_spikes, integer_spikes, membrane_bound
from bitsearch.deploy.integer.operations.layer_sums import held
from bitsearch.deploy.integer.operations.operation import (
    Float64Evaluation,
    IntegerEvaluation,
    Operation,
    ProgramContext,
)
from bitsearch.deploy.integer.packed_layer import max_code_sum
from bitsearch.validation import Name


class RunNeuron(Operation):
    """Σ n_t·code_t of a layer's neuron, with ``frames`` n_t·code_t of the step that a frame shows; times 2^``finer``.

    The layer's numbers say what its codes are; its weights are another operation's, ``synapses``. The result counts
    spike levels and has the fraction ``finer``, so that averages of it may be finer than a level.
    """

    op: Literal["neuron"] = "neuron"
    inputs: tuple[Value]
    layer: Name
    finer: int = Field(0, ge=0, le=16)
    spiking: ClassVar[bool] = True

    def widths(self, inputs: Sequence[Range], program: ProgramContext) -> NeuronWidths:
        """Of the membrane."""
        layer, numbers = program.layers[self.layer], program.numbers[self.layer]
        return NeuronWidths(*membrane_bound(self.name, layer, numbers, inputs[0]))

    def bounds(self, inputs: Sequence[Range], program: ProgramContext) -> Range:
        """Of the spikes; InputError if they are too wide."""
        layer, numbers = program.layers[self.layer], program.numbers[self.layer]
        largest = max_code_sum(layer, numbers.spike_weights) << self.finer
        check_width(self.name, largest)
        return Range(inputs[0].shape, self.finer, -largest if layer.signed else 0, largest)

    def integers(self, inputs: Sequence[Tensor], evaluation: IntegerEvaluation) -> Tensor:
        """In the type of the result."""
        program, (x_range,), widths = evaluation.ranges.program, evaluation.ranges.inputs, evaluation.ranges.widths
        assert widths is not None
        layer, numbers = program.layers[self.layer], program.numbers[self.layer]
        dtype = integer_type(evaluation.ranges.result.magnitude)
        spikes = integer_spikes(layer, numbers, dtype, inputs[0], x_range, widths, evaluation.observer)
        return held(spikes << self.finer, layer)

    def float64(self, inputs: Sequence[Tensor], evaluation: Float64Evaluation) -> Tensor:
        """The same recurrence on real numbers."""
        program, (x_range,), widths = evaluation.ranges.program, evaluation.ranges.inputs, evaluation.ranges.widths
        assert widths is not None
        layer, numbers = program.layers[self.layer], program.numbers[self.layer]
        return held(float64_spikes(layer, numbers, inputs[0], x_range, widths, evaluation.observer), layer)
