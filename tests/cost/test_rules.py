import pytest
from cost_problems import (
    EVENT_DRIVEN,
    LAYERS,
    NUMBERS,
    geometries,
    make_target,
    plans,
    some_choices,
    target_fields,
    uniform,
)
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from tolerances import FLOAT64

from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.cost import AllowedBits, CostModel, Target, check_first_layer, check_granularity
from bitsearch.cost.target_tables import RequiredBits
from bitsearch.errors import InputError
from bitsearch.plan import LayerPlan, UniformBits


def rules_of(target, choices=None, first_layer=None, layers=LAYERS):
    model = CostModel(layers, target=target)
    return model, AllowedBits.make(model, choices or Choices(), first_layer or FirstLayer())


def allowed(rules, name):
    return tuple(getattr(rules.choices[name], number).values for number in NUMBERS)


FIRST_LAYER = ((8,), (8,), (1,))


def test_the_choices_are_cut_to_what_the_target_allows():
    target = make_target(weight_bits=[1, 2, 4, 8], spike_bits=[2, 3, 5], max_time_steps=3)
    choices = Choices(weight_bits=Span(low=2, high=5), spike_bits=[1, 2, 5, 8], time_steps=Span(low=2, high=9))
    _, rules = rules_of(target, choices)
    assert list(rules.choices) == ["conv1", "conv2", "fc"]
    assert allowed(rules, "conv1") == FIRST_LAYER
    assert allowed(rules, "conv2") == allowed(rules, "fc") == ((2, 4), (2, 5), (2, 3))
    assert rules.searched == ("conv2", "fc")


def test_on_the_generic_target_the_choices_stay_as_they_are():
    _, rules = rules_of(Target.load("generic"))
    assert rules.choices["fc"] == Choices()


def test_the_target_may_require_bits_of_the_first_and_the_last_layer():
    target = make_target(
        weight_bits=[1],
        spike_bits=[1, 2],
        first_layer={"weight_bits": 4, "time_steps": 2},
        last_layer={"weight_bits": 8},
    )
    _, rules = rules_of(target, first_layer=FirstLayer(weight_bits=6, spike_bits=7))
    # The first layer's own bits hold where the target says nothing.
    assert allowed(rules, "conv1") == ((4,), (7,), (2,))
    assert allowed(rules, "conv2") == ((1,), (1, 2), (1, 2, 3, 4))
    assert allowed(rules, "fc") == ((8,), (1, 2), (1, 2, 3, 4))


def test_a_layer_with_nothing_to_choose_is_not_searched():
    target = make_target(last_layer={"weight_bits": 8, "spike_bits": 4, "time_steps": 1})
    _, rules = rules_of(target)
    assert rules.searched == ("conv2",)
    _, rules = rules_of(target, Choices(weight_bits=[3], spike_bits=[2], time_steps=[2]))
    assert rules.searched == ()


def test_the_last_layer_is_the_last_that_gets_bits():
    assert LAYERS[-1].fixed_reason
    _, rules = rules_of(make_target(last_layer={"weight_bits": 3}))
    assert allowed(rules, "fc")[0] == (3,)
    assert allowed(rules, "conv2")[0] == tuple(range(1, 9))


def test_a_layer_that_is_first_and_last_is_the_first():
    target = make_target(first_layer={"weight_bits": 4}, last_layer={"weight_bits": 2})
    _, rules = rules_of(target, layers=LAYERS[:1])
    assert allowed(rules, "conv1") == ((4,), (8,), (1,))
    _, rules = rules_of(make_target(last_layer={"weight_bits": 2}), layers=LAYERS[:1])
    assert allowed(rules, "conv1") == FIRST_LAYER


def test_without_a_first_layer_every_layer_is_searched():
    _, rules = rules_of(make_target(first_layer={"weight_bits": 4}), layers=LAYERS[1:3])
    assert rules.searched == ("conv2", "fc")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (
            {"weight_bits": [3, 5]},
            "choices.weight_bits of the search space, 3, 5, "
            "are none of the hardware target 'four', which allows 1, 4; ",
        ),
        (
            {"spike_bits": Span(low=2, high=3)},
            "choices.spike_bits of the search space, 2, 3, are none of the hardware target 'four', which allows 1, 4; ",
        ),
        (
            {"time_steps": Span(low=3, high=4)},
            "choices.time_steps of the search space, 3, 4, are none of the hardware target 'four', which allows 1, 2; ",
        ),
    ],
    ids=NUMBERS,
)
def test_nothing_in_common_is_refused_in_one_line(choices, message):
    target = make_target("four", weight_bits=[1, 4], spike_bits=[1, 4], max_time_steps=2)
    with pytest.raises(InputError) as caught:
        rules_of(target, Choices(**choices))
    assert str(caught.value) == message + "widen the choices, or take another target"


def test_the_nearest_plan_within_the_rules():
    target = make_target(weight_bits=[1, 2, 4, 8], max_time_steps=2, last_layer={"weight_bits": 8})
    model, rules = rules_of(target, Choices(spike_bits=Span(low=2, high=3)))
    plan = rules.nearest(model, uniform(5, 1, 4), granularity="channel", decay=0.5)
    common = {"granularity": "channel", "decay": 0.5, "neurons": ()}
    assert plan == {
        "conv1": LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1, signed_input=True, **common),
        "conv2": LayerPlan(weight_bits=4, spike_bits=(2, 2), time_steps=2, **common),
        "fc": LayerPlan(weight_bits=8, spike_bits=(2, 2), time_steps=2, **common),
    }
    # Half-way, the larger.
    assert rules.nearest(model, uniform(6, 2, 1), granularity="layer", decay=1.0)["conv2"].weight_bits == 8
    assert rules.nearest(model, uniform(3, 2, 1), granularity="layer", decay=1.0)["conv2"].weight_bits == 4


def test_the_smallest_plan_within_the_rules():
    target = make_target(weight_bits=[2, 4], max_time_steps=2, last_layer={"weight_bits": 8})
    model, rules = rules_of(target, Choices(spike_bits=[3, 5]))
    assert {name: (layer.weight_bits, layer.spike_bits) for name, layer in rules.smallest(model).items()} == {
        "conv1": (8, (8,)),
        "conv2": (2, (3,)),
        "fc": (8, (3,)),
    }


def test_a_plan_is_allowed_if_every_number_is():
    model, rules = rules_of(make_target(weight_bits=[1, 4], spike_bits=[2, 4], max_time_steps=2))
    plan = rules.smallest(model)
    assert rules.contains(plan)
    good = LayerPlan(weight_bits=4, spike_bits=(2, 4), time_steps=2)
    assert rules.contains(plan | {"fc": good})
    for fault in (
        {"weight_bits": 2},
        {"spike_bits": (2, 3)},
        {"spike_bits": (1, 4)},
        {"spike_bits": (2, 2, 2), "time_steps": 3},
    ):
        assert not rules.contains(plan | {"fc": good.model_copy(update=fault)}), fault
    assert not rules.contains(plan | {"conv1": good})


@examples(60)
@given(geometries(), target_fields(), st.data())
def test_the_rules_keep_to_the_choices_and_the_target(layers, fields, data):
    target = make_target(**fields)
    choices = data.draw(some_choices(target))
    model = CostModel(layers, target=target)
    rules = AllowedBits.make(model, choices, FirstLayer())
    widths = {
        "weight_bits": target.weight_bits,
        "spike_bits": [bits for bits in target.spike_bits if bits < target.membrane_bits],
        "time_steps": range(1, target.max_time_steps + 1),
    }
    for layer in model.layers:
        rule = target.first_layer if layer.first else target.last_layer if layer is model.layers[-1] else None
        for number in NUMBERS:
            values = getattr(rules.choices[layer.name], number).values
            required = getattr(rule, number, None)
            if required is not None:
                assert values == (required,)
            elif layer.first:
                assert values == (getattr(FirstLayer().bits(), number),)
            else:
                both = {
                    value for value in range(1, 65) if value in getattr(choices, number) and value in widths[number]
                }
                assert values == tuple(sorted(both))
    point = data.draw(
        st.builds(
            UniformBits, weight_bits=st.integers(1, 8), spike_bits=st.integers(1, 8), time_steps=st.integers(1, 8)
        )
    )
    assert rules.contains(rules.nearest(model, point, granularity="layer", decay=1.0))
    assert rules.contains(rules.smallest(model))
    names = [layer.name for layer in model.layers]
    plan = data.draw(plans(names))
    if rules.contains(plan):
        for metric in model.metrics:
            assert not model.cost(metric, rules.smallest(model)) > model.cost(metric, plan) * (1 + FLOAT64), metric


def test_granularity_is_checked_against_the_target():
    check_granularity("channel", EVENT_DRIVEN)
    with pytest.raises(InputError) as caught:
        check_granularity("channel", make_target("coarse", granularity=["layer"]))
    assert str(caught.value) == (
        "granularity is 'channel', but the hardware target 'coarse' has one weight step size a layer; "
        "set allocation.quantizer.granularity to that"
    )


def test_the_first_layers_own_bits_are_what_the_target_allows():
    target = make_target(weight_bits=(1, 4), spike_bits=(8,), max_time_steps=2)
    with pytest.raises(InputError, match=r"first_layer.weight_bits is 8, but the hardware target .* allows 1, 4; "):
        check_first_layer(FirstLayer(), target)
    check_first_layer(FirstLayer(weight_bits=4), target)
    with pytest.raises(InputError, match=r"first_layer.time_steps is 3, .* allows 1, 2"):
        check_first_layer(FirstLayer(weight_bits=4, time_steps=3), target)
    # What the target requires there stands above the space's own.
    check_first_layer(FirstLayer(), target.model_copy(update={"first_layer": RequiredBits(weight_bits=8)}))
