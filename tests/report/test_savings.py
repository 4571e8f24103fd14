import pytest

from bitsearch.plan import Reference
from bitsearch.report.savings import savings, savings_words

BASELINE = {"bit_budget": 64.0, "s_ace": 900.0, "weight_memory": 4096.0, "cores": 0.0}


@pytest.fixture
def plan(make_plan, make_settings):
    costs = {"bit_budget": 15.0, "s_ace": 300.0, "weight_memory": 2048.0, "ns_ace": 20.0, "cores": 0.0}
    return make_plan(make_settings(), 0, [(4, [4])] * 4, 0.9).model_copy(update={"costs": costs})


def test_savings_are_the_other_cost_over_the_plans(plan):
    assert savings(plan, BASELINE) == {"bit_budget": 64 / 15, "s_ace": 3.0, "weight_memory": 2.0}


def test_they_stand_beside_each_other_in_a_sentence_for_each(plan, make_settings):
    settings = make_settings().model_copy(
        update={"baseline_costs": BASELINE, "reference": Reference(spike_bits=1, time_steps=8, costs={"s_ace": 3e4})}
    )
    assert savings_words(plan, settings) == [
        "The baseline w8 s4 T2 costs, against the chosen plan: Bit Budget 4.27x, Weight memory 2x, S-ACE 3x.",
        "The network itself, w32 s1 T8, costs, against the chosen plan: S-ACE 100x.",
    ]


def test_without_costs_nothing_is_said(plan, make_settings):
    assert savings_words(plan, make_settings().model_copy(update={"baseline_costs": {}})) == []
