"""Operations that bring several values to one unit, the finest of theirs."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from bitsearch.deploy.integer.bounds import Range
from bitsearch.deploy.integer.fields import Value
from bitsearch.deploy.integer.operations.operation import (
    IntegerEvaluation,
    Operation,
    OperationRanges,
    ProgramContext,
)
from bitsearch.errors import InputError


class Add(Operation):
    """x + y of currents of one shape, in the finer of their units."""

    op: Literal["add"] = "add"
    inputs: tuple[Value, Value]

    def bounds(self, inputs: Sequence[Range], program: ProgramContext) -> Range:
        """The sums of the bounds; InputError if shapes differ."""
        x, y = _in_one_unit(inputs)
        if x.shape != y.shape:
            raise InputError(f"{self.name}: shapes {x.shape} and {y.shape} are added")
        return Range(x.shape, x.fraction, x.low + y.low, x.high + y.high)

    def integers(self, inputs: Sequence[Tensor], evaluation: IntegerEvaluation) -> Tensor:
        """In the type of the result."""
        x, y = _shifted(inputs, evaluation.ranges)
        return x + y


class Concatenate(Operation):
    """Currents one behind the other along their first axis (the channels), in the finest of their units."""

    op: Literal["concatenate"] = "concatenate"
    inputs: tuple[Value, ...] = Field(min_length=1, max_length=1 << 10)

    def bounds(self, inputs: Sequence[Range], program: ProgramContext) -> Range:
        """Those of all together; InputError if shapes differ behind their first axis."""
        values = _in_one_unit(inputs)
        first = values[0]
        if any(value.shape[1:] != first.shape[1:] for value in values):
            raise InputError(f"{self.name}: shapes {', '.join(str(value.shape) for value in values)} are concatenated")
        shape = (sum(value.shape[0] for value in values), *first.shape[1:])
        return Range(shape, first.fraction, min(value.low for value in values), max(value.high for value in values))

    def integers(self, inputs: Sequence[Tensor], evaluation: IntegerEvaluation) -> Tensor:
        """In the type of the result."""
        return torch.cat(_shifted(inputs, evaluation.ranges), 1)


def _in_one_unit(inputs: Sequence[Range]) -> list[Range]:
    fraction = max(value.fraction for value in inputs)
    return [
        Range(value.shape, fraction, value.low << fraction - value.fraction, value.high << fraction - value.fraction)
        for value in inputs
    ]


def _shifted(inputs: Sequence[Tensor], ranges: OperationRanges) -> list[Tensor]:
    """The currents in the unit and type of the result."""
    shifted = []
    for x, value in zip(inputs, ranges.inputs, strict=True):
        places = ranges.result.fraction - value.fraction
        shifted.append(x.to(ranges.dtype) << places if places else x.to(ranges.dtype))
    return shifted
