import re

import pytest
import torch
from cost_problems import LAYERS, geometries, layer, make_target
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from pydantic import ValidationError
from torch import nn

from bitsearch.choices import Choices, FirstLayer, Span, Tie
from bitsearch.cost import AllowedBits, CostModel, ties_of, trace
from bitsearch.errors import InputError
from bitsearch.plan import LayerPlan

WEIGHT = frozenset({"weight_bits"})
SPIKES = frozenset({"spike_bits", "time_steps"})


def tie(*layers, share=WEIGHT):
    return Tie(layers=layers, share=share)


def rules_of(layers, ties=(), choices=None, **fields):
    model = CostModel(layers, target=make_target(**fields) if fields else None, ties=ties)
    return AllowedBits.make(model, choices or Choices(), FirstLayer())


def three_linears(tied=True):
    network = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
    if tied:
        network[4].weight = network[2].weight
    return network


def plan(weight_bits, spike_bits):
    return LayerPlan(weight_bits=weight_bits, spike_bits=spike_bits, time_steps=len(spike_bits))


def test_one_parameter_in_two_layers_is_a_tie_of_their_weight_bits():
    assert ties_of(trace(three_linears(tied=False), torch.rand(2, 16))) == ()
    layers = trace(three_linears(), torch.rand(2, 16))
    assert ties_of(layers) == (Tie(layers=("2", "4"), share=WEIGHT, why="one weight"),)
    assert [entry.weight_of for entry in layers] == [None, None, "2"]
    assert [entry.macs for entry in layers] == [256, 256, 256]


def test_tied_weights_are_stored_once_at_their_one_width():
    model = CostModel(trace(three_linears(), torch.rand(2, 16)))
    bits = {"0": plan(8, (8,)), "2": plan(3, (2,)), "4": plan(3, (4, 4))}
    # ⌈256·8/8⌉ and ⌈256·3/8⌉ bytes of weights, 4 a spike step, 8 an output channel.
    assert model.cost("weight_memory", bits) == 256 + 96 + 4 * (1 + 1 + 2) + 8 * 48
    # Every call's multiply-accumulates.
    assert model.cost("s_ace", bits) == 256 * (8 * 8 + 3 * 2 + 3 * 4 * 2)
    # W̄ over 512 stored weights.
    assert model.means(bits)[0] == (256 * 8 + 256 * 3) / 512


def test_a_weight_that_one_module_keeps_at_32_bits_is_stored_there():
    layers = trace(three_linears(), torch.rand(2, 16), exclude=["4"])
    assert ties_of(layers) == ()
    assert [(entry.name, entry.weights) for entry in layers] == [("0", 256), ("2", 0), ("4", 256)]


def test_tied_layers_get_the_choices_that_all_of_them_may_have():
    layers = [layer(f"{i}", 1, 1, 1, 1) for i in range(4)]
    rules = rules_of(layers, [tie("0", "3"), tie("1", "2", share=SPIKES)], last_layer={"weight_bits": 6})
    assert [rules.choices[name].weight_bits.values for name in "03"] == [(6,), (6,)]
    assert rules.choices["1"].weight_bits.values == tuple(range(1, 9))
    assert rules.sharing("0", "weight_bits") == ("0", "3")
    assert rules.sharing("0", "spike_bits") == ("0",)
    assert rules.sharing("2", "time_steps") == rules.sharing("2", "spike_bits") == ("1", "2")


def test_ties_with_a_layer_in_common_are_one():
    layers = [layer(f"{i}", 1, 1, 1, 1) for i in range(4)]
    rules = rules_of(layers, [tie("3", "0"), tie("3", "2")])
    assert rules.sharing("2", "weight_bits") == ("0", "2", "3")


def test_layers_with_nothing_in_common_are_named_in_one_line():
    with pytest.raises(InputError) as fault:
        rules_of(LAYERS, [tie("fc", "conv1")], Choices(weight_bits=Span(low=1, high=4)))
    assert str(fault.value) == (
        "layers 'conv1' and 'fc' have one weight_bits (tied: fc, conv1: weight_bits), but may get 8 and 1, 2, 3, 4; "
        "give both a value in common, by choices, layers, first_layer, or the target's rules"
    )


def test_a_tie_of_a_layer_without_bits_is_refused():
    with pytest.raises(InputError, match=re.escape("names 'attention'; the layers that get bits: conv1, conv2, fc")):
        rules_of(LAYERS, [tie("fc", "attention")])


@pytest.mark.parametrize(
    ("layers", "share", "message"),
    [
        (("a",), WEIGHT, "at least 2"),
        (("a", "a"), WEIGHT, "name each once"),
        (("a", "b"), [], "at least 1"),
        (("a", "b"), ["spike_bits"], "give both"),
    ],
)
def test_a_tie_that_cannot_be_is_refused(layers, share, message):
    with pytest.raises(ValidationError, match=message):
        Tie(layers=layers, share=share)


@st.composite
def tied_layers(draw):
    layers = draw(geometries(5))
    names = [entry.name for entry in layers if entry.fixed_reason is None and not entry.first]
    ties = []
    if len(names) > 1:
        for _ in range(draw(st.integers(0, 3))):
            members = draw(st.lists(st.sampled_from(names), min_size=2, unique=True))
            ties.append(tie(*members, share=draw(st.sampled_from([WEIGHT, SPIKES, WEIGHT | SPIKES]))))
    return layers, ties


@examples(100)
@given(tied_layers(), st.data())
def test_a_plan_is_allowed_if_and_only_if_what_is_shared_is_alike(problem, data):
    layers, ties = problem
    rules = rules_of(layers, ties)
    bits = {
        name: plan(
            data.draw(st.sampled_from(choices.weight_bits.values)),
            (data.draw(st.sampled_from(choices.spike_bits.values)),)
            * data.draw(st.sampled_from(choices.time_steps.values)),
        )
        for name, choices in rules.choices.items()
    }
    alike = all(
        len({(bits[name].weight_bits if number == "weight_bits" else bits[name].spike_bits) for name in entry.layers})
        == 1
        for entry in ties
        for number in entry.share
    )
    assert rules.contains(bits) == alike
    assert rules.contains(rules.tied(bits))
