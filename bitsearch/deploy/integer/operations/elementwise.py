"""Operations on each current alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field
from torch import Tensor

from bitsearch.deploy.integer.bounds import Range, check_width
from bitsearch.deploy.integer.fields import Fraction, Value
from bitsearch.deploy.integer.operations.operation import (
    Float64Evaluation,
    IntegerEvaluation,
    Operation,
    ProgramContext,
)
from bitsearch.deploy.integer.rounding import half, rescaled, rounded


class Relu(Operation):
    """max(x, 0)."""

    op: Literal["relu"] = "relu"
    inputs: tuple[Value]

    def bounds(self, inputs: Sequence[Range], program: ProgramContext) -> Range:
        """Those of the input above zero."""
        return replace(inputs[0], low=max(inputs[0].low, 0), high=max(inputs[0].high, 0))

    def integers(self, inputs: Sequence[Tensor], evaluation: IntegerEvaluation) -> Tensor:
        """In the type of the input."""
        return inputs[0].clamp_min(0)


class Scale(Operation):
    """A factor of multiplier·2^−(shift + finer): ⌊(x·multiplier + ½·2^shift) / 2^shift⌋, ``finer`` bits finer."""

    op: Literal["scale"] = "scale"
    inputs: tuple[Value]
    multiplier: int = Field(ge=1, le=1 << 16)
    shift: int = Field(ge=0, le=16)
    finer: Fraction

    def bounds(self, inputs: Sequence[Range], program: ProgramContext) -> Range:
        """Those of the input, scaled; InputError if a product is too wide."""
        (x,) = inputs
        check_width(self.name, x.magnitude * self.multiplier + half(self.shift))
        low, high = (rescaled(end, self.multiplier, self.shift) for end in (x.low, x.high))
        return Range(x.shape, x.fraction + self.finer, low, high)

    def integers(self, inputs: Sequence[Tensor], evaluation: IntegerEvaluation) -> Tensor:
        """Products in 64 bits."""
        return rescaled(inputs[0].long(), self.multiplier, self.shift).to(evaluation.ranges.dtype)

    def float64(self, inputs: Sequence[Tensor], evaluation: Float64Evaluation) -> Tensor:
        """The rounded factor in the place of the network's."""
        factor = self.multiplier * 2.0 ** -(self.shift + self.finer)
        return rounded(inputs[0] * factor, evaluation.ranges.result.fraction)
