"""Searches for the cheapest plan that keeps an accuracy goal."""

import pytest
from bars import loaders

import bitsearch
from bitsearch.errors import InputError
from bitsearch.plan import DROP
from bitsearch.study.run import search

pytestmark = pytest.mark.training
GOAL = {"epochs": 1, "trials": 4}


@pytest.fixture(scope="module")
def result(trained, tmp_path_factory):
    return search(
        trained, loaders(), max_drop="10", minimize="s_ace", out=tmp_path_factory.mktemp("runs") / "r", **GOAL
    )


def test_the_chosen_plan_is_the_cheapest_that_loses_no_more(result):
    folder = result.folder
    reference, plans = folder.settings.full_precision.validation, folder.plans()
    assert folder.settings.metric == "s_ace"
    assert folder.settings.budgets == ()
    for plan in plans:
        (outcome,) = plan.budget
        lost = reference - plan.accuracy.validation
        assert (outcome.metric, outcome.requested, outcome.limit) == (DROP, "max drop 10", 0.1)
        assert outcome.achieved == pytest.approx(max(0.0, lost), abs=1e-12)
        assert outcome.met == (round(lost, 9) <= 0.1)
    within = [plan for plan in plans if plan.met]
    assert result.best.costs["s_ace"] == min(plan.costs["s_ace"] for plan in within)
    # Uniform plans take part.
    assert {plan.provenance.method for plan in plans} == {"adaptive", "uniform"}


def test_trials_narrow_the_cost(result):
    """Every trial aims below the cheapest plan within the goal that was known when it began."""
    from bitsearch.study.study import finished_trials

    trials = finished_trials(result.folder)
    for index, trial in enumerate(trials):
        known = [before.values[1] for before in trials[:index] if before.constraints[DROP] <= 0]
        if "cost_target" in trial.params and known:
            assert trial.params["cost_target"] <= min(known)


def test_terminal_page_and_json_say_what_was_lost(result, capsys):
    from bitsearch.cli.terminal.console import Console
    from bitsearch.cli.terminal.tables import print_result
    from bitsearch.runs.drop import drop_text

    said = drop_text(result.folder)
    assert "on test" in said
    assert "±" in said
    page = bitsearch.write_report(result.folder)
    assert said.replace("+", "&#43;") in page.read_text(encoding="utf-8").replace("+", "&#43;")
    print_result(result, page, Console())
    assert "10.00 points lost on validation" in " ".join(capsys.readouterr().out.split())
    assert "max drop 10" in result._repr_html_()


def test_the_same_search_goes_on_and_another_goal_is_refused(trained, result):
    out = result.folder.path
    assert search(trained, loaders(), max_drop="10", minimize="s_ace", out=out, **GOAL).best == result.best
    with pytest.raises(InputError, match="holds a run with the limits 'max drop 10', not 'max drop 5'"):
        search(trained, loaders(), max_drop=5, minimize="s_ace", out=out, **GOAL)
    with pytest.raises(InputError, match="holds a run with metric 's_ace', not 'bit_budget'"):
        search(trained, loaders(), max_drop="10", out=out, **GOAL)


def test_budgets_hold_as_well(trained, tmp_path):
    made = search(trained, loaders(), ["4x", "memory=1500"], max_drop="60%+1se", out=tmp_path / "r", epochs=1, trials=2)
    for plan in made.folder.plans():
        assert [outcome.metric for outcome in plan.budget] == ["bit_budget", "weight_memory", DROP]
        assert all(outcome.met for outcome in plan.budget[:2])
    assert made.folder.settings.request == "bit_budget=4x, weight_memory=1500, max drop 60%+1se"
    lost = made.folder.settings.full_precision.validation - made.best.accuracy.validation
    assert lost <= made.best.accuracy_goal.achieved <= 0.6 * made.folder.settings.full_precision.validation
    assert made.best.accuracy_goal.met


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_drop": "none"}, "max drop 'none' is not understood"),
        ({"max_drop": "1", "objective": "s_ace"}, "with max_drop, minimize names the cost"),
        ({"budget": "4x", "minimize": "s_ace"}, "minimize is for an accuracy goal; give max_drop"),
        ({"max_drop": "1", "minimize": "watts"}, "'watts' is not a cost metric"),
        ({}, "a network comes with its data and a budget"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(options, said, refusal):
    assert said in refusal(**options, **GOAL)
