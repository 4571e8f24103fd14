"""What each layer may get by the rules of a space and of a hardware target, and what they say of themselves."""

from dataclasses import replace

import pytest
from cost_problems import LAYERS, NUMBERS, geometries, make_target, some_choices, target_fields, uniform
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples

from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.cost import AllowedBits, CostModel
from bitsearch.errors import InputError
from bitsearch.layer_rules import LayerRule, TieRule


def rules_of(*rules, choices=None, ties=(), geometry=LAYERS, **fields):
    model = CostModel(geometry, target=make_target(**fields) if fields else None, ties=ties)
    return AllowedBits.make(model, choices or Choices(), FirstLayer(), rules)


def allowed(rules, name):
    return tuple(getattr(rules.choices[name], number).values for number in NUMBERS)


def test_a_rule_takes_the_place_of_choices_and_of_the_first_layers_bits():
    rules = rules_of(
        LayerRule(match="conv*", weight_bits=[2, 4]),
        LayerRule(match="fc", weight_bits=8, spike_bits=8, time_steps=6),
        choices=Choices(weight_bits=Span(low=1, high=3)),
    )
    assert allowed(rules, "conv1") == ((2, 4), (8,), (1,))
    assert allowed(rules, "conv2") == ((2, 4), tuple(range(1, 9)), (1, 2, 3, 4))
    # A rule may go beyond the choices of all.
    assert allowed(rules, "fc") == ((8,), (8,), (6,))
    assert rules.searched == ("conv1", "conv2")
    assert rules.origin("fc") == "[[layers]] 'fc'"
    assert rules.origin("conv1") == "weight_bits: [[layers]] 'conv*'; spike_bits, time_steps: first_layer"
    assert str(rules.maximum) == "w8 s8 T6"


def test_the_last_rule_wins_number_by_number():
    rules = rules_of(LayerRule(match="*", weight_bits=3, spike_bits=2), LayerRule(match="conv2", weight_bits=5))
    assert allowed(rules, "conv2") == ((5,), (2,), (1, 2, 3, 4))
    assert allowed(rules, "fc") == ((3,), (2,), (1, 2, 3, 4))


def test_the_targets_widths_are_limits_of_a_rule():
    rules = rules_of(LayerRule(match="fc", weight_bits={"low": 2, "high": 6}), weight_bits=[1, 4, 8])
    assert allowed(rules, "fc")[0] == (4,)
    assert rules.origins["fc"]["weight_bits"] == "[[layers]] 'fc'; target 'drawn'"
    with pytest.raises(InputError) as fault:
        rules_of(LayerRule(match="fc", weight_bits=[2, 3]), weight_bits=[1, 4, 8])
    assert str(fault.value) == (
        "layer 'fc' may get weight_bits 2, 3 by [[layers]] 'fc', and by target 'drawn' only 1, 4, 8; let both have a "
        "value in common, or take another target"
    )


def test_the_targets_own_rules_stand_in_place_of_its_widths():
    target = {"weight_bits": [1], "layers": [{"match": "fc", "weight_bits": [4, 8], "granularity": "channel"}]}
    rules = rules_of(**target)
    assert allowed(rules, "conv2")[0] == (1,)
    assert allowed(rules, "fc")[0] == (4, 8)
    model = CostModel(LAYERS, target=make_target(**target))
    plan = rules.nearest(model, uniform(8, 4, 2), granularity="layer")
    assert [plan[name].granularity for name in ("conv1", "conv2", "fc")] == ["layer", "layer", "channel"]
    assert allowed(rules_of(LayerRule(match="fc", weight_bits=8), **target), "fc")[0] == (8,)
    with pytest.raises(InputError) as fault:
        rules_of(LayerRule(match="fc", weight_bits=1), **target)
    assert str(fault.value) == (
        "layer 'fc' may get weight_bits 1 by [[layers]] 'fc', and by target 'drawn', [[layers]] 'fc' only 4, 8; let "
        "both have a value in common, or take another target"
    )
    with pytest.raises(InputError) as fault:
        rules_of(LayerRule(match="fc", granularity="layer"), **target)
    assert str(fault.value) == (
        "layer 'fc' has granularity 'layer' by [[layers]] 'fc', and 'channel' by target 'drawn', [[layers]] 'fc'; give "
        "both the same, or take another target"
    )


def test_what_the_target_fixes_of_the_first_and_the_last_layer_may_not_be_contradicted():
    target = {"first_layer": {"weight_bits": 4}, "last_layer": {"time_steps": 2}}
    assert allowed(rules_of(LayerRule(match="*", weight_bits=[2, 4]), **target), "conv1")[0] == (4,)
    with pytest.raises(InputError) as fault:
        rules_of(LayerRule(match="conv1", weight_bits=[2, 3]), **target)
    assert str(fault.value) == (
        "layer 'conv1' may get weight_bits 2, 3 by [[layers]] 'conv1', and by target 'drawn', first_layer only 4; let "
        "both have a value in common, or take another target"
    )
    with pytest.raises(InputError, match=r"time_steps 1 by .* and by target 'drawn', last_layer only 2; "):
        rules_of(LayerRule(match="fc", time_steps=1), **target)


def test_frames_limit_the_time_steps_of_a_rule():
    layers = [replace(entry, frames=3) for entry in LAYERS]
    rules = rules_of(LayerRule(match="fc", time_steps=[2, 5]), geometry=layers)
    assert allowed(rules, "fc")[2] == (2,)
    with pytest.raises(InputError) as fault:
        rules_of(LayerRule(match="fc", time_steps=5), geometry=layers)
    assert str(fault.value) == (
        "[[layers]] 'fc': time_steps are 5, but layer 'fc' has an input of 3 frames; allow at most that many time steps"
    )
    looped = [replace(entry, frames=3, loop="frames") for entry in LAYERS]
    assert allowed(rules_of(LayerRule(match="fc", time_steps=[2, 3]), geometry=looped), "fc")[2] == (3,)
    with pytest.raises(
        InputError, match="but layer 'fc' is called once a frame, for 3 frames; leave its time steps out"
    ):
        rules_of(LayerRule(match="fc", time_steps=2), geometry=looped)


def test_a_name_of_no_layer_is_told_the_near_ones():
    for rule in (LayerRule(match="conv3", weight_bits=2), LayerRule(match="attention", weight_bits=2)):
        with pytest.raises(InputError, match=r"^\[\[layers\]\] match '\w+' is the name of no layer that gets bits; "):
            rules_of(rule)
    with pytest.raises(InputError, match=r"^target 'drawn', \[\[layers\]\] match 'conv3' is the name of no layer"):
        rules_of(layers=[{"match": "conv3", "weight_bits": 2}])
    with pytest.raises(InputError, match="near: 'conv2', 'conv1'"):
        rules_of(ties=[TieRule(match=["fc", "conv3"], share=["weight_bits"])])
    with pytest.raises(InputError) as fault:
        rules_of(ties=[TieRule(match="fc", share=["weight_bits"])])
    assert str(fault.value) == "[[ties]] match 'fc' is the name of 'fc' alone; name at least two layers"


def test_ties_by_name_share_what_both_may_have():
    rules = rules_of(
        LayerRule(match="conv2", weight_bits=[2, 3, 4]),
        LayerRule(match="fc", weight_bits=[4, 8]),
        ties=[TieRule(match=["conv2", "f*"], share=["weight_bits"])],
    )
    assert rules.sharing("fc", "weight_bits") == ("conv2", "fc")
    assert allowed(rules, "fc")[0] == allowed(rules, "conv2")[0] == (4,)
    assert rules.sharing("fc", "spike_bits") == ("fc",)


def test_how_a_layer_is_quantized_is_a_rule_too():
    rules = rules_of(LayerRule(match="conv*", granularity="channel", spike_granularity="layer", quantizer="sigmoid"))
    model = CostModel(LAYERS)
    for plan in (
        rules.nearest(model.with_one_step(rules.one_step("step")), uniform(4, 4, 2), granularity="layer"),
        rules.nearest(model.with_one_step(rules.one_step("layer")), uniform(4, 4, 2), granularity="channel"),
    ):
        assert plan["conv2"].granularity == "channel"
        assert plan["conv2"].spike_granularity == "layer"
    plan = rules.nearest(model, uniform(4, 4, 2), granularity="layer")
    assert (plan["fc"].granularity, plan["fc"].spike_granularity) == ("layer", None)
    assert rules.setting("conv2", "quantizer", "uniform") == "sigmoid"
    assert rules.setting("fc", "quantizer", "uniform") == "uniform"
    stepped = rules_of(LayerRule(match="fc", spike_granularity="step"))
    plan = stepped.nearest(model.with_one_step(stepped.one_step("layer")), uniform(4, 4, 2), granularity="layer")
    assert (plan["conv2"].spike_granularity, plan["fc"].spike_granularity) == ("layer", None)
    with pytest.raises(InputError) as fault:
        rules_of(LayerRule(match="fc", granularity="channel"), granularity=["layer"])
    assert str(fault.value) == (
        "[[layers]] 'fc': granularity is 'channel', but the hardware target 'drawn' has one weight step size a layer; "
        "set it to that"
    )


def test_one_weight_is_quantized_in_one_way():
    shared = [*LAYERS[:2], replace(LAYERS[2], weight_of="conv2")]
    rules_of(LayerRule(match=["conv2", "fc"], granularity="channel"), geometry=shared)
    with pytest.raises(InputError) as fault:
        rules_of(LayerRule(match="fc", granularity="channel"), geometry=shared)
    assert str(fault.value) == (
        "layers 'conv2' and 'fc' are tied (one weight), and [[layers]] give one of them granularity 'channel' and the "
        "other none; match both"
    )


@st.composite
def layer_rules(draw, names, target):
    """Rules that leave every layer something on the target, which has no rules of its own."""
    found = []
    values = {
        "weight_bits": target.weight_bits,
        "spike_bits": target.spike_bits,
        "time_steps": range(1, target.max_time_steps + 1),
    }
    for _ in range(draw(st.integers(0, 4))):
        numbers = draw(st.sets(st.sampled_from(NUMBERS), min_size=1))
        content = {}
        for number in sorted(numbers):
            some = draw(st.sets(st.sampled_from(list(values[number])), min_size=1))
            content[number] = sorted(some) if len(some) > 1 or draw(st.booleans()) else next(iter(some))
        match = draw(st.lists(st.sampled_from([*names, "layer*", "*"]), min_size=1, unique=True))
        found.append(LayerRule(match=match, **content))
    return found


@examples(60)
@given(geometries(), target_fields(), st.data())
def test_any_rules_leave_what_the_last_one_says(layers, fields, data):
    fields = fields | {"first_layer": None, "last_layer": None}
    target = make_target(**fields)
    model = CostModel(layers, target=target)
    names = [entry.name for entry in model.layers]
    drawn = data.draw(layer_rules(names, target))
    rules = AllowedBits.make(model, data.draw(some_choices(target)), FirstLayer(), drawn)
    unruled = AllowedBits.make(model, Choices(), FirstLayer())
    assert list(unruled.choices) == list(rules.choices)
    for name in names:
        for number in NUMBERS:
            said = [
                getattr(rule, number).values
                for rule in drawn
                if getattr(rule, number) is not None and {name, "*", "layer*"} & set(rule.match)
            ]
            if said:
                assert getattr(rules.choices[name], number).values == said[-1]
    assert rules.contains(rules.smallest(model))
    assert rules.contains(rules.nearest(model, rules.maximum, granularity="layer"))
    highest = rules.nearest(model, rules.maximum, granularity="layer")
    assert all(highest[name].weight_bits == rules.choices[name].weight_bits.high for name in names)
