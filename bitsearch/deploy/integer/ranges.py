"""Shapes, units and the widths that integers need: interval arithmetic over a program and its integer weights.

Everything is computed in Python's unlimited integers before a tensor is made, so that no header can ask for integers
or memory beyond what is allowed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from bitsearch.deploy.integer.bounds import Range, check_width
from bitsearch.deploy.integer.operations.operation import OperationRanges, ProgramContext
from bitsearch.deploy.integer.packed_layer import LayerNumbers
from bitsearch.deploy.integer.program import Program
from bitsearch.errors import InputError


@dataclass(frozen=True)
class Analysis:
    """All values of a program, and what every operation makes of which."""

    values: list[Range]
    operations: list[OperationRanges] = field(default_factory=list)


def analyse_ranges(program: Program, numbers: Mapping[str, LayerNumbers]) -> Analysis:
    """Bounds of every value of ``program``.

    Raises:
        InputError: shapes that do not fit, or integers or memory beyond what is allowed; names the operation.
    """
    context = ProgramContext(program.input.frames or 1, program.layers, numbers)
    largest = program.input.largest
    analysis = Analysis([Range(program.input.shape, program.input.fraction, -largest, largest)])
    for operation in program.operations:
        inputs = [analysis.values[value] for value in operation.inputs]
        widths = operation.widths(inputs, context)
        result = operation.bounds(inputs, context)
        elements = prod(result.shape)
        if elements > context.most_elements:
            raise InputError(f"{operation.name}: {elements} currents for one input; at most {context.most_elements}")
        check_width(operation.name, result.magnitude)
        analysis.values.append(result)
        analysis.operations.append(OperationRanges(context, inputs, result, widths))
    return analysis
