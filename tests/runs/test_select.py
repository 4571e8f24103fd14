import pytest

from bitsearch.errors import InputError
from bitsearch.runs.select import select_plan


def test_the_chosen_plan_is_the_default(finished_run):
    assert select_plan(finished_run.folder) == finished_run.best


def test_any_trial_can_be_had(finished_run):
    for plan in finished_run.folder.plans():
        assert select_plan(finished_run.folder, trial=plan.provenance.trial) == plan


def test_another_budget_gives_the_best_plan_within_it_and_says_so(finished_run):
    plan = select_plan(finished_run.folder, budget="4x")
    assert plan.budget[0].requested == "4x"
    assert plan.budget[0].limit == 16.0
    assert plan.budget[0].met
    assert plan.accuracy == finished_run.best.accuracy
    cheapest = min(plan.costs["bit_budget"] for plan in finished_run.folder.plans())
    assert select_plan(finished_run.folder, budget=f"bit_budget={cheapest}").costs["bit_budget"] == cheapest


def test_a_run_answers_for_tighter_budgets_than_its_own(finished_run):
    # The first uniform plan along the front is the cheapest of all.
    plans = finished_run.folder.plans()
    plan = select_plan(finished_run.folder, budget="16x")
    assert plan.met
    assert plan.costs["bit_budget"] <= plan.budget[0].limit == 4.0
    assert plan.accuracy.validation == max(p.accuracy.validation for p in plans if p.costs["bit_budget"] <= 4.0)


def test_a_budget_that_no_trial_meets_names_the_cheapest(finished_run):
    cheapest = min(plan.costs["bit_budget"] for plan in finished_run.folder.plans())
    with pytest.raises(InputError, match=f"no trial .* meets 60x .* cheapest plan has {cheapest:.6g}"):
        select_plan(finished_run.folder, budget="60x")


def test_trial_and_budget_together_are_refused(finished_run):
    with pytest.raises(InputError, match="give one of them"):
        select_plan(finished_run.folder, trial=0, budget="4x")


def test_a_budget_may_be_of_another_metric_than_the_runs_own(run_on_a_target):
    folder = run_on_a_target.folder
    cheapest = min(folder.plans(), key=lambda plan: plan.costs["s_ace"])
    plan = select_plan(folder, budget=f"s_ace={cheapest.costs['s_ace']}")
    assert plan.layers == cheapest.layers
    wide = select_plan(folder, budget="s_ace=2x")
    assert wide.layers == run_on_a_target.best.layers
    for found, requested in ((plan, str(cheapest.costs["s_ace"])), (wide, "2x")):
        assert found.met
        assert [(outcome.metric, outcome.requested) for outcome in found.budget] == [
            ("s_ace", requested),
            ("weight_memory", "target mine"),
            ("working_memory", "target mine"),
        ]
    assert wide.budget[0].limit == folder.settings.baseline_costs["s_ace"] / 2


def test_a_budget_without_a_metric_is_of_the_axis(run_on_a_target):
    limits = [select_plan(run_on_a_target.folder, budget=budget).budget[0] for budget in ("2KiB", "memory=2048")]
    assert [(outcome.metric, outcome.limit) for outcome in limits] == [("weight_memory", 2048.0)] * 2


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("s_ace=64x", r"no trial .* meets 64x \(s_ace ≤ .* cheapest plan has \d+.*bitsearch run --budget s_ace=64x"),
        ("latency=1ns", r"no trial .* meets 1ns \(latency ≤ 1.ns\)"),
        ("cores=4", r"'cores' needs a hardware target with a table \[cores\], which 'mine' has not"),
        ("ns_ace=4x", "ns_ace of the baseline is not known; give a number in bit operations"),
        ("memory=64furlongs", "'furlongs' is no unit of weight_memory; give one of B, kB"),
        ("watts=3", "'watts' is not a cost metric"),
        ("s_ace=", "is not understood"),
    ],
)
def test_a_budget_that_cannot_be_exported_is_named(run_on_a_target, budget, said):
    with pytest.raises(InputError, match=said):
        select_plan(run_on_a_target.folder, budget=budget)
