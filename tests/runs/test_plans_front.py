import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsearch.plan import Baseline, BitPlan, BudgetOutcome, LayerPlan, Provenance
from bitsearch.runs.pareto import best_plan, pareto_front, to_dataframe
from bitsearch.score import Accuracy

LIMIT = 10.0


def make_plan(trial, accuracy, cost, method="adaptive"):
    return BitPlan(
        space="s",
        network="n",
        budget=(BudgetOutcome(metric="bit_budget", requested="4x", limit=LIMIT, achieved=cost, met=cost <= LIMIT),),
        baseline=Baseline(weight_bits=8, spike_bits=4, time_steps=2, costs={"bit_budget": 40.0}),
        layers={"conv": LayerPlan(weight_bits=2, spike_bits=(3, 2), time_steps=2)},
        costs={"bit_budget": cost},
        accuracy=Accuracy(validation=accuracy),
        provenance=Provenance(bitsearch="0", torch="0", seed=0, command="c", trial=trial, method=method),
    )


def numbers(plans):
    return [plan.provenance.trial for plan in plans]


def test_the_front_holds_what_nothing_beats_cheapest_first():
    plans = [
        make_plan(0, 0.9, 5),
        make_plan(1, 0.8, 6),
        make_plan(2, 0.95, 9),
        make_plan(3, 0.7, 2),
        make_plan(4, 0.9, 5),
    ]
    assert numbers(pareto_front(plans, "bit_budget")) == [3, 0, 2]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), min_size=1, max_size=12))
def test_no_plan_of_the_front_is_dominated_and_every_other_is(points):
    plans = [make_plan(number, accuracy / 5, float(cost)) for number, (accuracy, cost) in enumerate(points)]
    front = pareto_front(plans, "bit_budget")

    def beats(one, other):
        better = (one.accuracy.validation, -one.costs["bit_budget"])
        worse = (other.accuracy.validation, -other.costs["bit_budget"])
        return better != worse and all(a >= b for a, b in zip(better, worse, strict=True))

    kept = set(numbers(front))
    for plan in plans:
        dominated = any(beats(other, plan) for other in plans)
        if plan.provenance.trial in kept:
            assert not dominated
        else:
            twin = any((other.accuracy, other.costs) == (plan.accuracy, plan.costs) for other in front)
            assert dominated or twin


def test_the_best_meets_the_budget_and_is_the_cheapest_of_equals():
    plans = [make_plan(0, 0.99, 11), make_plan(1, 0.9, 9), make_plan(2, 0.9, 8), make_plan(3, 0.5, 1)]
    best = best_plan(plans, "bit_budget")
    assert best is not None
    assert best.provenance.trial == 2


def test_there_is_no_best_where_nothing_meets_the_budget():
    assert best_plan([make_plan(0, 0.99, 11)], "bit_budget") is None


def test_the_table_has_a_row_a_plan_with_every_layers_bits():
    row = to_dataframe([make_plan(0, 0.9, 5)]).iloc[0]
    assert row["trial"] == 0
    assert row["validation_accuracy"] == pytest.approx(0.9)
    assert row["conv.weight_bits"] == 2
    assert row["conv.spike_bits"] == "3 2"
    assert row["test_accuracy"] is None or math.isnan(row["test_accuracy"])
