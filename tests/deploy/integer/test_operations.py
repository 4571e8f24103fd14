"""An operation is one class, and all that walk over programs ask it alone."""

import itertools
from pathlib import Path
from typing import Literal, get_args

import packed_reader
import pytest
import torch

from bitsearch.deploy.integer.bounds import Range
from bitsearch.deploy.integer.interpreter import Replay
from bitsearch.deploy.integer.operations import AnyOperation, MaxPool, Operation
from bitsearch.deploy.integer.operations.operation import ProgramContext
from bitsearch.deploy.integer.program import NetworkInput, Program
from bitsearch.deploy.integer.ranges import analyse_ranges
from bitsearch.errors import InputError

OPERATIONS = get_args(AnyOperation)
FORMAT = (Path(__file__).parents[3] / "docs" / "packed-format.md").read_text(encoding="utf-8")


class Double(Operation):
    """2·x, an operation that the library does not have."""

    op: Literal["double"] = "double"

    def bounds(self, inputs, program):
        (x,) = inputs
        return Range(x.shape, x.fraction, 2 * x.low, 2 * x.high)

    def integers(self, inputs, evaluation):
        return (2 * inputs[0].long()).to(evaluation.ranges.dtype)


def program_of(count, *, largest=1 << 30):
    """``count`` times doubled."""
    operations = tuple(Double(name=f"double{index}", inputs=(index,)) for index in range(count))
    network_input = NetworkInput(shape=(2,), fraction=0, largest=largest)
    return Program.model_construct(input=network_input, layers={}, operations=operations)


def test_an_operation_of_ones_own_is_analysed_and_run():
    x = torch.tensor([[1.0, -(2.0**30)], [3.0, 0.0]])
    program = program_of(3)
    assert analyse_ranges(program, {}).values[-1] == Range((2,), 0, -(1 << 33), 1 << 33)
    assert Replay(program, {})(x).tolist() == [[8, -(1 << 33)], [24, 0]]


def test_the_walk_compares_what_an_operation_says_with_what_is_allowed():
    assert analyse_ranges(program_of(19), {})
    with pytest.raises(InputError, match="double19: integers of 52 bits; at most 51"):
        analyse_ranges(program_of(20), {})
    wide = program_of(1).model_copy(update={"input": NetworkInput(shape=(1 << 24, 8), fraction=0, largest=1)})
    with pytest.raises(InputError, match="double0: 134217728 currents for one input; at most 67108864"):
        analyse_ranges(wide, {})


def test_an_operation_without_a_meaning_on_integers_is_none():
    class Half(Operation):
        """Only a name."""

        op: Literal["half"] = "half"

    with pytest.raises(TypeError, match="abstract"):
        Half(name="half", inputs=(0,))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_described_and_read_independently(operation):
    assert operation.__doc__ != Operation.__doc__
    name = operation.model_fields["op"].default
    assert name in {"layer", "neuron", "synapses", *(function.__name__ for function in packed_reader.OPERATIONS)}
    assert f"\n| `{name}` |" in FORMAT
    for field in set(operation.model_fields) - {"op", "name", "inputs"}:
        assert f"`{field}`" in FORMAT, field


def test_names_of_operations_differ_and_stand_first_in_a_file():
    names = [operation.model_fields["op"].default for operation in OPERATIONS]
    assert len(set(names)) == len(names) == 12
    assert all(list(operation.model_fields)[:3] == ["op", "name", "inputs"] for operation in OPERATIONS)


def test_what_an_operation_is_given_says_its_widths():
    ranges = analyse_ranges(program_of(2), {}).operations[1]
    assert (ranges.inputs[0].high, ranges.result.high, ranges.widths) == (1 << 31, 1 << 32, None)
    assert ranges.dtype == torch.int64


def test_no_window_of_a_pooling_is_padding_alone():
    context, refused = ProgramContext(1, {}, {}), 0
    for length, kernel, padding, dilation in itertools.product(range(1, 5), range(1, 5), range(3), range(1, 7)):
        setting = {"kernel": (kernel,), "stride": (1,), "padding": (padding,), "dilation": (dilation,)}
        pool = MaxPool(name="pool", inputs=(0,), **setting)
        try:
            shape = pool.bounds([Range((1, length), 0, 1, 1)], context).shape
        except InputError as error:
            refused += "in the padding alone" in str(error)
            continue
        pooled = pool.integers([torch.ones(1, 1, length, dtype=torch.int32)], None)
        assert pooled.tolist() == torch.ones(1, *shape).tolist()
    assert refused == 4
