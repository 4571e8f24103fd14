import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bitsearch.errors import InputError
from bitsearch.plan import Baseline, BitPlan, BudgetOutcome, LayerPlan, Provenance
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.pareto import best_plan
from bitsearch.runs.test_split import verdict_of
from bitsearch.runs.verdict import judge
from bitsearch.score import Accuracy
from bitsearch.text import SPACE


def make_plan(trial, bits, validation, method="adaptive", test=None):
    """Two layers of the same bits; within the budget up to 6 of them."""
    layer = LayerPlan(weight_bits=bits, spike_bits=(2,), time_steps=1)
    outcome = BudgetOutcome(metric="bit_budget", requested="6", limit=6, achieved=bits, met=bits <= 6)
    return BitPlan(
        space="digits",
        network="digits_cnn",
        budget=(outcome,),
        baseline=Baseline(weight_bits=8, spike_bits=4, time_steps=2, costs={"bit_budget": 64}),
        layers={"conv1": layer, "conv2": layer},
        costs={"bit_budget": bits},
        accuracy=Accuracy(validation=validation, test=test),
        provenance=Provenance(bitsearch="0", torch="0", seed=0, command="", trial=trial, method=method),
    )


def right(samples, *wrong):
    """All of them but these."""
    return ~np.isin(np.arange(samples), wrong)


def verdict(plans, correct=None):
    return judge(plans, best_plan(plans, "bit_budget"), "bit_budget", correct)


def words(result):
    return result.text.replace(SPACE, " ")


def test_a_difference_that_so_many_samples_show():
    plans = [
        make_plan(3, 4, 0.98, test=1.0),
        make_plan(4, 5, 0.97),
        make_plan(5, 3, 0.97, "uniform", test=0.9),
        make_plan(6, 8, 0.99, "uniform"),
    ]
    result = verdict(plans, {3: right(100), 5: right(100, *range(10))})
    assert words(result) == (
        "An adaptive plan won: trial 3, the best on validation of 2 adaptive plans within the budget, has 98.00 % on "
        "validation and 100.00 % on test; trial 5 (w3 s2 T1), the best of 1 uniform plan within the budget, has "
        "97.00 % on validation and 90.00 % on test. On the test split trial 3 is 10.00 points above trial 5 (95 % "
        "interval +3.83 to +10.00 points). They cost 4 bits and 3 bits."
    )
    assert (result.chosen_from, result.rival_from) == (2, 1)


def test_one_image_is_no_difference():
    plans = [make_plan(3, 4, 0.98, test=0.9), make_plan(5, 3, 0.97, "uniform", test=0.8972)]
    result = verdict(plans, {3: right(360, *range(36)), 5: right(360, *range(37))})
    assert result.headline == "No difference that 360 test samples can show"
    assert str(result) == result.text
    assert "0.28 points above trial 5 (95 % interval \u22120.26 to +0.28 points)" in words(result)


def test_a_choice_that_the_test_split_contradicts():
    plans = [make_plan(3, 4, 0.98, test=0.9), make_plan(5, 3, 0.97, "uniform", test=1.0)]
    result = verdict(plans, {3: right(100, *range(10)), 5: right(100)})
    assert result.headline == "The best uniform plan is better on the test split"
    assert "trial 3 is 10.00 points below trial 5" in words(result)


def test_a_uniform_plan_that_won():
    plans = [make_plan(3, 4, 0.96, test=0.9), make_plan(5, 3, 0.97, "uniform", test=1.0)]
    assert verdict(plans, {3: right(100, *range(10)), 5: right(100)}).headline == "A uniform plan won"


def test_plans_that_are_the_same_in_every_layer():
    plans = [make_plan(3, 3, 0.98, test=0.97), make_plan(5, 3, 0.93, "uniform", test=0.9)]
    result = verdict(plans, {3: right(100), 5: right(100, *range(10))})
    assert words(result) == (
        "The same plan: trial 3 and trial 5 (w3 s2 T1), the best uniform plan, have the same bits everywhere. Their "
        "accuracies, 98.00 % on validation and 97.00 % on test and 93.00 % on validation and 90.00 % on test, differ "
        "by training alone."
    )


def test_a_run_that_did_not_keep_which_samples_were_right():
    plans = [make_plan(3, 4, 0.98, test=1.0), make_plan(5, 3, 0.97, "uniform", test=0.9)]
    for correct in (None, {}, {3: right(100)}):
        result = verdict(plans, correct)
        assert result.headline == "An adaptive plan is ahead on validation"
        assert "is not recorded" in result.explanation


def test_nothing_to_compare_with():
    plans = [make_plan(3, 4, 0.98)]
    assert verdict(plans).headline == "An adaptive plan was chosen, with nothing beside it"
    assert verdict(plans).explanation.endswith("No uniform plan was trained.")
    plans.append(make_plan(5, 8, 0.99, "uniform"))
    assert verdict(plans).explanation.endswith("No uniform plan met the budget.")


def test_a_run_keeps_which_test_samples_were_right(finished_run):
    folder = finished_run.folder
    table = load_file(folder.test_file)
    for plan in folder.plans():
        row = f"trial-{plan.provenance.trial:04d}"
        assert (row in table) == (plan.accuracy.test is not None)
        if row in table:
            assert table[row].mean() == plan.accuracy.test
    assert table["full-precision"].mean() == folder.settings.full_precision.test
    result = finished_run.verdict
    chosen, rival = (table[f"trial-{plan.provenance.trial:04d}"] for plan in (result.chosen, result.rival))
    assert result.difference.difference == pytest.approx(chosen.mean() - rival.mean())
    assert json.loads(json.dumps(result.as_json()))["test_difference"]["samples"] == len(chosen)


@pytest.mark.parametrize(
    "content", [b"not safetensors", {"trial-0000": np.zeros((3, 2), bool)}, {"trial-0000": np.zeros(3, int)}]
)
def test_a_damaged_table_is_named(finished_run, tmp_path, content):
    import shutil

    shutil.copytree(finished_run.folder.path, tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    folder.test_file.write_bytes(content) if isinstance(content, bytes) else save_file(content, folder.test_file)
    with pytest.raises(InputError, match=r"test\.safetensors is not"):
        verdict_of(folder)


def test_where_methods_are_compared_the_rival_is_the_best_of_the_others():
    plans = [
        make_plan(0, 4, 0.98, test=0.99),
        make_plan(1, 5, 0.97, "sensitivity", test=0.9),
        make_plan(2, 3, 0.96, "uniform", test=0.8),
        make_plan(3, 4, 0.95, test=0.7),
    ]
    correct = {0: right(100, 0), 1: right(100, *range(10)), 2: right(100, *range(20))}
    result = judge(plans, plans[0], "bit_budget", correct, by_method=True)
    assert (result.rival, result.rival_kind, result.chosen_from, result.rival_from) == (plans[1], "other", 2, 2)
    assert result.difference.difference == pytest.approx(0.09)
    result = judge([plans[0], plans[1]], plans[0], "bit_budget", correct, by_method=True)
    assert result.rival_kind == "sensitivity"
    assert "the best of 1 sensitivity plan within the budget" in words(result)
