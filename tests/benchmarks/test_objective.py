"""The evidence on the objective: which plan is set beside which."""

import pytest

from benchmarks.evidence.objective import METRICS, TARGETS, compare, pairs, without_one
from bitsearch.plan import Accuracy, Baseline, BitPlan, BudgetOutcome, LayerPlan, Provenance


def plan_of(accuracy, s_ace, memory):
    return BitPlan(
        space="s",
        network="n",
        budget=(BudgetOutcome(metric="s_ace", requested="4x", limit=10.0, achieved=s_ace, met=s_ace <= 10),),
        baseline=Baseline(weight_bits=8, spike_bits=4, time_steps=2, costs={"s_ace": 40.0}),
        layers={"conv": LayerPlan(weight_bits=2, spike_bits=(3,), time_steps=1)},
        costs={"s_ace": s_ace, "weight_memory": memory},
        accuracy=Accuracy(validation=accuracy),
        provenance=Provenance(bitsearch="0", torch="0", seed=0, command="c", trial=0, method="adaptive"),
    )


def test_the_mark_is_the_most_accurate_plan_that_the_other_budget_allows():
    # The first is not allowed by the memory, the second costs more than one as accurate.
    marks = [plan_of(0.99, 9, 200), plan_of(0.95, 8, 90), plan_of(0.95, 6, 100), plan_of(0.97, 11, 80)]
    # One standard error of 0.95 on 400 samples is 0.0109.
    plans = [plan_of(0.93, 1, 50), plan_of(0.94, 3, 90), plan_of(0.96, 7, 95)]
    row = compare(plans, marks, 100, "weight_memory", "s_ace", 400)
    assert (row["mark"], row["mark_cost"]) == (95.0, 6)
    assert (row["accuracy"], row["cost"], row["ratio"]) == (94.0, 3, 0.5)
    assert (row["chosen"], row["chosen_cost"]) == (96.0, 7)


def test_a_run_without_a_plan_as_accurate_has_no_ratio():
    row = compare([plan_of(0.5, 1, 50)], [plan_of(0.95, 6, 90)], 100, "weight_memory", "s_ace", 400)
    assert row["ratio"] != row["ratio"]


def test_what_one_trial_makes_of_a_ratio_is_told_by_leaving_each_out():
    # Without the first mark one of cost 4 is the mark, and one of cost 2 as accurate; without the plan at 5, one at 6.
    marks = [plan_of(0.97, 5, 90), plan_of(0.95, 4, 90)]
    plans = [plan_of(0.95, 2, 90), plan_of(0.97, 5, 90), plan_of(0.98, 6, 90)]
    case = (plans, marks, 100, "weight_memory", "s_ace", 400)
    assert compare(*case)["ratio"] == 1.0
    assert without_one(*case) == (0.5, 1.2)
    # One plan alone is as accurate: without it there is none.
    assert without_one(plans[:2], *case[1:]) == (0.5, float("inf"))
    assert without_one(plans[:1], marks[1:], *case[2:]) == (0.5, 0.5)


def test_every_two_metrics_of_a_target_are_a_pair():
    assert len(set(pairs())) == len(pairs())
    for budget in METRICS:
        for axis in METRICS:
            targets = [target for target, *pair in pairs() if pair == [budget, axis]]
            assert targets == (
                [] if budget == axis else [next(t for t in TARGETS if {budget, axis} <= set(TARGETS[t]))]
            )


@pytest.mark.parametrize("samples", [1, 10_000])
def test_more_samples_leave_less_room(samples):
    row = compare(
        [plan_of(0.94, 3, 90), plan_of(0.95, 8, 90)], [plan_of(0.95, 6, 90)], 100, "weight_memory", "s_ace", samples
    )
    assert row["cost"] == (3 if samples == 1 else 8)
