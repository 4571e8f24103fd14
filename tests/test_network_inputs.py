import pytest
import torch
from torch import nn

from bitsearch.errors import InputError
from bitsearch.network_inputs import (
    as_inputs,
    call_network,
    called_with,
    dtypes_of,
    dtypes_text,
    map_inputs,
    normal_shape,
    shape_of,
    shape_text,
    single_input,
    split_inputs,
    tensors_of,
)

LEFT, RIGHT = torch.arange(12.0).view(6, 2), torch.arange(6.0)
SEVERAL = {"tuple": (LEFT, RIGHT), "dict": {"left": LEFT, "right": RIGHT}, "one": LEFT}


class Weighted(nn.Module):
    def forward(self, left, right=None):
        return left.sum(1) if right is None else left.sum(1) - 10 * right


@pytest.mark.parametrize("kind", SEVERAL)
def test_a_network_is_called_as_by_hand(kind):
    expected = LEFT.sum(1) if kind == "one" else LEFT.sum(1) - 10 * RIGHT
    assert torch.equal(call_network(Weighted(), SEVERAL[kind]), expected)


def test_kinds_are_told_as_inputs_hold_them():
    kinds = dtypes_of(LEFT.long()), dtypes_of((LEFT, RIGHT > 1)), dtypes_of({"left": LEFT, "right": RIGHT.long()})
    texts = ["int64", "float32 and bool", "left float32 and right int64"]
    assert [dtypes_text(kind) for kind in kinds] == texts
    assert dtypes_of({"right": RIGHT, "left": LEFT}) == dtypes_of({"left": LEFT, "right": RIGHT})


def test_names_count_and_not_their_order():
    assert torch.equal(call_network(Weighted(), {"right": RIGHT, "left": LEFT}), LEFT.sum(1) - 10 * RIGHT)


@pytest.mark.parametrize("kind", SEVERAL)
def test_a_call_shows_what_it_was_given(kind):
    seen = []
    network = Weighted()
    network.register_forward_pre_hook(lambda _, args, kwargs: seen.append(called_with(args, kwargs)), with_kwargs=True)
    call_network(network, SEVERAL[kind])
    (inputs,) = seen
    assert type(inputs) is type(SEVERAL[kind])
    assert all(x is y for x, y in zip(tensors_of(inputs), tensors_of(SEVERAL[kind]), strict=True))


def test_a_call_of_another_kind_shows_none():
    assert called_with((), {}) is None
    assert called_with((LEFT,), {"right": RIGHT}) is None
    assert called_with((LEFT, 3), {}) is None


@pytest.mark.parametrize("kind", SEVERAL)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_parts_are_the_whole_again(kind, count):
    parts = split_inputs(SEVERAL[kind], count, 0)
    assert len(parts) == count
    assert all(type(part) is type(SEVERAL[kind]) for part in parts)
    for index, whole in enumerate(tensors_of(SEVERAL[kind])):
        pieces = [tensors_of(part)[index] for part in parts]
        assert torch.equal(torch.cat(pieces), whole)
        assert [len(piece) for piece in pieces] == [len(piece) for piece in torch.arange(6).tensor_split(count)]


def test_every_tensor_is_changed():
    doubled = map_inputs(lambda x: 2 * x, SEVERAL["dict"])
    assert list(doubled) == ["left", "right"]
    assert torch.equal(doubled["right"], 2 * RIGHT)


def test_shapes():
    assert shape_of(LEFT, without=0) == (2,)
    assert shape_of(SEVERAL["tuple"], without=0) == ((2,), ())
    assert shape_of(SEVERAL["dict"]) == {"left": (6, 2), "right": (6,)}
    assert normal_shape([1, 8, 8]) == (1, 8, 8)
    assert normal_shape([[2], []]) == ((2,), ())
    assert normal_shape({"left": [2], "right": []}) == shape_of(SEVERAL["dict"], without=0)
    assert [shape_text(shape_of(inputs, without=0)) for inputs in SEVERAL.values()] == [
        "[2] and []",
        "left [2] and right []",
        "[2]",
    ]


def test_what_collate_functions_make_becomes_a_tuple_or_a_dict():
    from collections import OrderedDict, namedtuple

    pair = namedtuple("pair", ["left", "right"])
    assert as_inputs([LEFT, RIGHT]) == (LEFT, RIGHT)
    assert type(as_inputs(pair(LEFT, RIGHT))) is tuple
    assert type(as_inputs(OrderedDict(SEVERAL["dict"]))) is dict
    assert as_inputs(LEFT) is LEFT


def test_a_reader_of_one_input_names_what_it_got():
    assert single_input(LEFT, "a packed file") is LEFT
    with pytest.raises(InputError, match=r"a packed file has one input, .* takes 2, of shape left \[6, 2\] and right"):
        single_input(SEVERAL["dict"], "a packed file")
