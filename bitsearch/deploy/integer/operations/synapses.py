"""The operation that runs a layer's weights alone, on what neurons of their own have sent."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from bitsearch.deploy.integer.bounds import NeuronWidths, Range
from bitsearch.deploy.integer.fields import Value
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
from bitsearch.deploy.integer.packed_layer import PackedLayer
from bitsearch.quant.frames import first_frames
from bitsearch.validation import Name


class RunSynapses(Operation):
    """A layer's convolution or product of whole numbers that ``neuron`` made, and its affine map.

    With ``frames`` every time step reads the first frame that shows it. The multiplier holds the unit of the input.
    """

    op: Literal["synapses"] = "synapses"
    inputs: tuple[Value]
    layer: Name

    def widths(self, inputs: Sequence[Range], program: ProgramContext) -> NeuronWidths:
        """Of the sum and its products."""
        layer, numbers = program.layers[self.layer], program.numbers[self.layer]
        accumulator, product = sum_bounds(self.name, layer, numbers, inputs[0].magnitude)
        return NeuronWidths(accumulator=accumulator, product=product)

    def bounds(self, inputs: Sequence[Range], program: ProgramContext) -> Range:
        """Of the output, whose products :meth:`widths` has found to fit 64 bits."""
        layer, numbers, (x,) = program.layers[self.layer], program.numbers[self.layer], inputs
        low, high = output_bounds(layer, numbers, min(x.low, 0), max(x.high, 0))
        return Range(output_shape(self.name, layer, x.shape, program.most_elements), layer.fraction, low, high)

    def integers(self, inputs: Sequence[Tensor], evaluation: IntegerEvaluation) -> Tensor:
        """In the types that :class:`.LayerTensors` chooses."""
        tensors = evaluation.tensors[self.layer]
        total = tensors.sum(_by_step(inputs[0], tensors.layer).to(tensors.dtype))
        evaluation.observer("accumulator", 0, total)
        return held(tensors.affine(total, evaluation.ranges.dtype), tensors.layer)

    def float64(self, inputs: Sequence[Tensor], evaluation: Float64Evaluation) -> Tensor:
        """The network's own convolution or product."""
        program, (x_range,) = evaluation.ranges.program, evaluation.ranges.inputs
        layer, numbers = program.layers[self.layer], program.numbers[self.layer]
        sums = evaluation.module(_by_step(inputs[0], layer))
        return held(affine_float64(sums, layer, numbers, x_range.fraction), layer)


def _by_step(x: Tensor, layer: PackedLayer) -> Tensor:
    """``[F·N, ...]`` of a layer with frames as ``[T·N, ...]``."""
    if layer.frames is None:
        return x
    return first_frames(x.unflatten(0, (layer.frames, -1)), layer.time_steps).flatten(0, 1)
