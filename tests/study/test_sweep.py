"""Several budgets in one run: trials go to them in turns, and each gets a plan."""

import json
import re
from io import StringIO

import pytest
from bars import loaders
from rich.console import Console

import bitsearch
from bitsearch.cli.terminal.tables import print_result
from bitsearch.errors import InputError
from bitsearch.runs.sweep import sweep_plans
from bitsearch.study.run import search
from bitsearch.study.study import finished_trials
from bitsearch.text import SPACE, shared_widths

pytestmark = pytest.mark.training
SHORT = {"epochs": 1, "trials": 4}


@pytest.fixture(scope="module")
def result(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return search(trained, loaders(), "memory=2KiB", sweep="8x, 2x", out=out, **SHORT)


def test_trials_go_to_the_budgets_in_turns_the_loosest_first(result):
    settings = result.folder.settings
    limits = [stop.limit for stop in settings.sweep]
    assert limits == [64 / 2, 64 / 8]
    aimed = [trial.params["cost_target"] for trial in finished_trials(result.folder) if "cost_target" in trial.params]
    assert aimed == [32.0, 8.0, 32.0, 8.0]
    for plan in result.folder.plans():
        assert [(outcome.requested, outcome.met) for outcome in plan.budget] == [("2x", True), ("2KiB", True)]


def test_every_budget_has_the_best_plan_within_it_in_a_file_and_a_row(result):
    folder, plans = result.folder, result.folder.plans()
    for stop in folder.settings.sweep:
        plan = bitsearch.BitPlan.load(folder.path / f"plan-{stop.requested}.json")
        within = [other for other in plans if other.costs["bit_budget"] <= stop.limit]
        assert plan.accuracy.validation == max(other.accuracy.validation for other in within)
        assert [outcome.limit for outcome in plan.budget] == [stop.limit, 2048.0]
        assert plan.met
        # Whatever is shown has been measured on the test split.
        assert plan.accuracy.test is not None
        assert result.evaluate(loaders()[1], plan.provenance.trial) == plan.accuracy.validation
    assert list(result.sweep["budget"]) == ["2x", "8x"]
    assert (folder.path / "sweep.csv").read_text(encoding="utf-8").splitlines()[1].startswith("2x,32.0,")
    assert result.best.layers == bitsearch.BitPlan.load(folder.path / "plan-2x.json").layers


def test_each_budget_has_uniform_plans_of_its_own(result):
    uniform = [plan.costs["bit_budget"] for plan in result.uniform]
    assert any(cost <= 8 for cost in uniform)
    assert any(8 < cost <= 32 for cost in uniform)


def test_the_first_trial_at_every_budget_has_the_spaces_own_settings(result):
    own = result.folder.settings.space.allocation
    searched = [trial.params for trial in finished_trials(result.folder) if "cost_target" in trial.params]
    assert [params["weight_price"] == own.weight_price for params in searched] == [True, True, False, False]


def test_the_terminal_has_a_table_of_them(result, capsys):
    print_result(result, bitsearch.write_report(result.folder), Console())
    printed = capsys.readouterr().out
    assert "The plan within each budget" in printed
    assert "bit_budget=2x,8x, weight_memory=2KiB" in printed
    assert json.loads(result.sweep.to_json(orient="records"))[1]["limit"] == 8.0


def test_the_table_of_budgets_names_the_unit_and_writes_bits_as_everywhere(result):
    printed = StringIO()
    print_result(result, result.folder.report_file, Console(file=printed, width=200))
    table = printed.getvalue().partition("The plan within each budget")[2].partition("└")[0].replace(SPACE, " ")
    assert "in bits" in table
    for stop, plan in sweep_plans(result.folder):
        (row,) = (line for line in table.splitlines() if line.startswith(f"│ {stop.requested} "))
        assert f"trial {plan.provenance.trial}" in row
        assert (shared_widths(plan) or "adaptive") in row


def test_the_same_sweep_goes_on_and_another_is_refused(trained, result):
    out = result.folder.path
    again = search(trained, loaders(), "memory=2KiB", sweep=["2x", "8x"], out=out, **SHORT)
    assert again.folder.plans() == result.folder.plans()
    with pytest.raises(
        InputError, match="holds a run with the sweep 'bit_budget=2x,8x, weight_memory=2KiB', not 'bit_budget=2x,4x, "
    ):
        search(trained, loaders(), "memory=2KiB", sweep="2x,4x", out=out, **SHORT)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sweep": "4x"}, "sweep is '4x'; give at least two budgets, each once"),
        ({"sweep": "4x,bit_budget=16"}, "give at least two budgets, each once"),
        ({"sweep": "4x,memory=1KiB"}, "a sweep is of one metric, not of bit_budget and weight_memory"),
        ({"sweep": "4x,100x"}, "budget 100x .* is infeasible"),
        ({"sweep": "4x,8x", "budget": "2x"}, "a budget and the sweep both limit bit_budget"),
        ({"sweep": "4x,8x", "objective": "s_ace"}, "objective is s_ace, and the sweep is of bit_budget"),
        ({"sweep": "4x,8x", "max_drop": 1}, "sweep and max_drop were both given"),
        ({"sweep": "4x,8x,2x,3x,5x"}, "trials is 4; a sweep of 5 budgets takes at least 5"),
    ],
)
def test_what_cannot_be_swept_is_one_line_and_nothing_is_written(options, said, refusal):
    assert re.search(said, refusal(**options, **SHORT))
