"""Operations that move currents and leave them as they are."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Literal

from torch import Tensor

from bitsearch.deploy.integer.bounds import Range
from bitsearch.deploy.integer.fields import Shape, Value
from bitsearch.deploy.integer.operations.operation import IntegerEvaluation, Operation, ProgramContext
from bitsearch.errors import InputError


class Reshape(Operation):
    """The same currents in another shape, in row-major order."""

    op: Literal["reshape"] = "reshape"
    inputs: tuple[Value]
    shape: Shape

    def bounds(self, inputs: Sequence[Range], program: ProgramContext) -> Range:
        """Those of the input; InputError if the shape has another number of elements."""
        if prod(self.shape) != prod(inputs[0].shape):
            raise InputError(f"{self.name}: shape {inputs[0].shape} cannot become {self.shape}")
        return replace(inputs[0], shape=self.shape)

    def integers(self, inputs: Sequence[Tensor], evaluation: IntegerEvaluation) -> Tensor:
        """In the type of the input."""
        return inputs[0].reshape(-1, *self.shape)
