import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsearch.choices import Choices, NeuronChoice, Span
from bitsearch.errors import InputError
from bitsearch.plan import NeuronSettings, UniformBits

OF_NETWORK = NeuronSettings(reset="zero", threshold="full", strict=True, largest=1.0)


def test_a_span_includes_both_ends():
    span = Span(low=2, high=4)
    assert [value in span for value in range(1, 6)] == [False, True, True, True, False]
    assert span.values == (2, 3, 4)


def test_a_list_holds_its_values_alone():
    for listed in ([1, 2, 4, 8], (8, 4, 2, 1), [4, 1, 2, 2, 8]):
        span = Span.model_validate(listed)
        assert (span.low, span.high, span.only) == (1, 8, (1, 2, 4, 8))
        assert span.values == (1, 2, 4, 8)
        assert [value for value in range(10) if value in span] == [1, 2, 4, 8]
    assert Span.model_validate([3]).values == (3,)


SPANS = st.one_of(
    st.lists(st.integers(1, 12), min_size=1, max_size=6).map(Span.model_validate),
    st.tuples(st.integers(1, 6), st.integers(0, 6)).map(lambda ends: Span(low=ends[0], high=sum(ends))),
)


@given(SPANS, st.integers(0, 14))
def test_a_neighbour_is_the_next_value_in_its_direction(span, value):
    assert span.neighbour(value, 1) == min((other for other in span.values if other > value), default=None)
    assert span.neighbour(value, -1) == max((other for other in span.values if other < value), default=None)


@given(SPANS, st.floats(0, 14))
def test_the_nearest_value_is_the_larger_of_two(span, value):
    nearest = span.nearest(value)
    distance = abs(nearest - value)
    assert nearest in span
    assert all(
        abs(other - value) > distance or (abs(other - value) == distance and other <= nearest) for other in span.values
    )


@given(SPANS, st.sets(st.integers(0, 14)))
def test_within_keeps_what_is_allowed_and_nothing_else(span, allowed):
    both = tuple(value for value in span.values if value in allowed)
    within = span.within(allowed)
    assert within == (None if not both else within)
    assert (within.values if within else ()) == both
    if both == span.values:
        assert within is span


def test_the_nearest_allocation_is_nearest_in_each_number():
    choices = Choices.model_validate({"weight_bits": [1, 2, 4, 8], "spike_bits": [2, 4], "time_steps": [1, 4]})
    assert str(choices.nearest(UniformBits(weight_bits=3, spike_bits=8, time_steps=2))) == "w4 s4 T1"
    assert str(choices.nearest(UniformBits(weight_bits=6, spike_bits=1, time_steps=3))) == "w8 s2 T4"


@pytest.mark.parametrize(
    ("choice", "before", "after"),
    [
        ({}, None, NeuronSettings()),
        ({"reset": "zero"}, None, NeuronSettings(reset="zero")),
        ({"start": "zero"}, None, NeuronSettings(threshold="full")),
        ({"reset": "subtract"}, OF_NETWORK, OF_NETWORK.model_copy(update={"reset": "subtract"})),
        ({"start": "zero"}, OF_NETWORK, OF_NETWORK),
        ({"start": "half"}, OF_NETWORK, NeuronSettings(reset="zero", largest=1.0)),
    ],
)
def test_a_choice_of_neuron_changes_what_it_names_alone(choice, before, after):
    assert NeuronChoice.model_validate(choice).of(before) == after


def test_a_choice_of_neuron_stands_for_what_it_names_of_another():
    choice = NeuronChoice(reset="zero", start="half")
    assert choice.replace({"start": "zero"}) == NeuronChoice(reset="zero", start="zero")
    assert choice.replace(NeuronChoice(reset="subtract")) == NeuronChoice(reset="subtract", start="half")
    assert choice.replace(None) == choice


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"reset": "hard"}, "neuron: reset is 'hard'"),
        ({"rest": "zero"}, "neuron: unknown field 'rest'; .* did you mean 'reset'"),
        ("zero", "neuron is 'zero'; give a NeuronChoice, or its fields"),
    ],
)
def test_what_no_neuron_is_is_one_line(choice, said):
    with pytest.raises(InputError, match=said) as refused:
        NeuronChoice().replace(choice)
    assert "\n" not in str(refused.value)
