"""Which of the first layer's fixed bits have to fall for a budget, counted by hand."""

import pytest
from cost_problems import LAYERS, make_target

from bitsearch.choices import Choices, FirstLayer
from bitsearch.cost import AllowedBits, CostModel
from bitsearch.cost.first_layer import options_of, relaxation
from bitsearch.layer_rules import LayerRule

REST = 288 + 48 + 10 * 32 * 32
"""Bit operations of all layers but the first, at one bit; attention has 32."""


def relaxed(limit, *rules, choices=None, target=None):
    model = CostModel(LAYERS, target=target)
    allowed = AllowedBits.make(model, Choices(), FirstLayer(), rules)
    return relaxation(model, allowed, lambda plan: model.cost("s_ace", plan) <= limit, choices)


@pytest.mark.parametrize(
    ("limit", "numbers"),
    [
        # 288 MACs of the first layer: 8·8 bits at first, then 8·1, then 1·1.
        (288 * 8 + REST, {"spike_bits": (1, 8)}),
        (288 * 8 + REST - 1, {"weight_bits": (1, 8), "spike_bits": (1, 8)}),
        (288 + REST, {"weight_bits": (1, 8), "spike_bits": (1, 8)}),
        (288 + REST - 1, None),
    ],
)
def test_as_few_kinds_fall_as_suffice(limit, numbers):
    rules = relaxed(limit)
    spans = [{number: (span.low, span.high) for number, span in rule.numbers.items()} for rule in rules]
    assert spans == ([] if numbers is None else [numbers])


def test_what_falls_is_among_the_choices_and_what_it_was():
    (rule,) = relaxed(288 * 16 + REST, choices=Choices(spike_bits=[2, 4]))
    assert (rule.match, rule.numbers["spike_bits"].values) == (("conv1",), (2, 4, 8))
    assert relaxed(288 * 16 + REST - 1, choices=Choices(weight_bits=[8], spike_bits=[2, 4])) == ()


def test_what_a_rule_or_a_chip_fixes_stays():
    limit = 288 * 8 + REST
    assert [rule.numbers.keys() for rule in relaxed(limit, LayerRule(match="conv1", spike_bits=8))] == [{"weight_bits"}]
    chip = make_target(first_layer={"weight_bits": 8, "spike_bits": 8})
    assert relaxed(limit, target=chip) == ()


def test_it_is_typed_as_the_command_line_takes_it():
    rules = relaxed(288 + REST)
    text = options_of(rules)
    assert text == "--layer 'conv1:weight_bits={low=1,high=8}' --layer 'conv1:spike_bits={low=1,high=8}'"
    parsed = [LayerRule.parse(part.strip("'")) for part in text.split()[1::2]]
    assert [rule.numbers for rule in parsed] == [{number: span} for number, span in rules[0].numbers.items()]
