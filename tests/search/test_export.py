import pytest

from bitsearch.errors import InputError
from bitsearch.search.export import select_plan


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
    assert select_plan(finished_run.folder, budget=str(cheapest)).costs["bit_budget"] == cheapest


def test_a_budget_that_no_trial_meets_names_the_cheapest(finished_run):
    cheapest = min(plan.costs["bit_budget"] for plan in finished_run.folder.plans())
    with pytest.raises(InputError, match=f"no trial .* meets 60x .* cheapest plan has {cheapest:.6g}"):
        select_plan(finished_run.folder, budget="60x")


def test_trial_and_budget_together_are_refused(finished_run):
    with pytest.raises(InputError, match="give one of them"):
        select_plan(finished_run.folder, trial=0, budget="4x")
