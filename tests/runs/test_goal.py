import numpy as np
import pytest
from safetensors.numpy import save_file

from bitsearch.errors import InputError
from bitsearch.plan import SCORE_DROP, Accuracy, Baseline, BitPlan, LayerPlan, Provenance
from bitsearch.runs.drop import drop_text
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.goal import AccuracyGoal
from bitsearch.runs.pareto import best_plan
from bitsearch.runs.verdict import judge
from bitsearch.score import ACCURACY, Score


def make_plan(trial, bits, validation, method="adaptive", goal="1", full_precision=0.98):
    layer = LayerPlan(weight_bits=bits, spike_bits=(2,), time_steps=1)
    return BitPlan(
        space="digits",
        network="digits_cnn",
        budget=(AccuracyGoal.parse(goal).outcome(full_precision, validation, 0.0),),
        baseline=Baseline(weight_bits=8, spike_bits=4, time_steps=2, costs={"bit_budget": 64}),
        layers={"conv1": layer, "conv2": layer},
        costs={"bit_budget": bits},
        accuracy=Accuracy(validation=validation),
        provenance=Provenance(bitsearch="0", torch="0", seed=0, command="", trial=trial, method=method),
    )


@pytest.mark.parametrize(
    ("request_", "limit", "errors"),
    [("0.5", 0.005, 0), (".5", 0.005, 0), ("2%", 0.0196, 0), (" 2 % + 1.5 SE", 0.0196, 1.5), ("3+1se", 0.03, 1)],
)
def test_points_are_shares_of_all_and_percent_of_full_precision(request_, limit, errors):
    goal = AccuracyGoal.parse(request_)
    assert goal.limit(0.98) == pytest.approx(limit, rel=1e-12)
    assert goal.errors == errors


@pytest.mark.parametrize("request_", ["", "0", "-1", "1pt", "2%%", "1+se", "1+-1se", "nan", "9" * 200])
def test_another_form_is_refused_in_one_line(request_):
    with pytest.raises(InputError, match=r"is not understood; give points of accuracy above 0 such as 0\.5") as caught:
        AccuracyGoal.parse(request_)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("samples", [200, 360, 1000, 1797, 10_000])
def test_a_drop_of_exactly_the_goal_is_within_it_whatever_floats_make_of_it(samples):
    goal = AccuracyGoal.parse("0.5")
    for right in range(samples // 2, samples + 1):
        for lost in {samples * 5 // 1000, samples * 5 // 1000 + 1}:
            outcome = goal.outcome(right / samples, (right - lost) / samples, 0.0)
            assert outcome.met == (1000 * lost <= 5 * samples), (right, lost)


def test_standard_errors_are_added_to_what_is_lost():
    without, with_one = AccuracyGoal.parse("1"), AccuracyGoal.parse("1+1se")
    assert without.outcome(0.9, 0.895, 0.006).met
    assert not with_one.outcome(0.9, 0.895, 0.006).met
    assert with_one.outcome(0.9, 0.895, 0.006).achieved == 0.011
    assert with_one.outcome(0.9, 0.95, 0.0).achieved == 0.0


def test_the_cheapest_within_the_goal_is_chosen_and_of_equals_the_better():
    plans = [make_plan(0, 8, 0.99), make_plan(1, 4, 0.97), make_plan(2, 4, 0.972), make_plan(3, 2, 0.96)]
    assert best_plan(plans, "bit_budget") == plans[2]
    assert best_plan(plans[3:], "bit_budget") is None


def test_the_verdict_sets_the_cheapest_of_both_kinds_side_by_side():
    plans = [make_plan(0, 3, 0.971), make_plan(1, 8, 0.99), make_plan(2, 4, 0.975, "uniform"), make_plan(3, 2, 0.9)]
    verdict = judge(plans, best_plan(plans, "bit_budget"), "bit_budget")
    assert verdict.headline == "An adaptive plan is the cheapest that keeps the accuracy goal"
    assert verdict.rival == plans[2]
    assert (verdict.chosen_from, verdict.rival_from) == (2, 1)
    assert "the cheapest of 2 adaptive plans within the goal" in verdict.explanation


@pytest.fixture
def run(finished_run, tmp_path):
    """A run folder with a goal, of plans that were never trained."""
    folder = RunFolder(tmp_path / "run")
    folder.make()
    update = {"goal": AccuracyGoal.parse("1"), "budgets": (), "full_precision": Accuracy(validation=0.98)}
    folder.write_settings(finished_run.folder.settings.model_copy(update=update))
    return folder


def test_a_goal_that_no_plan_keeps_says_how_close_the_nearest_came(run):
    for plan in (make_plan(0, 8, 0.96), make_plan(1, 4, 0.95)):
        run.write_plan(plan)
    said = "within max drop 1: the nearest, trial 0, loses 2.00 points of at most 1.00, at bit_budget 8; allow more"
    with pytest.raises(InputError, match=said):
        run.chosen()


def test_of_a_goal_that_allows_nothing_the_nearest_is_what_loses_least(run):
    """A share of a score of 0 is 0: R² of a network that predicts the mean."""
    for trial, validation in enumerate((-0.5, -0.2, -0.3)):
        outcome = AccuracyGoal.parse("2%").outcome(0.0, validation, 0.0)
        run.write_plan(make_plan(trial, 8, 0.5).model_copy(update={"budget": (outcome,)}))
    with pytest.raises(
        InputError, match=r"within max drop 2%: the nearest, trial 1, loses 20.00 points of at most 0.00"
    ):
        run.chosen()


def test_what_is_lost_comes_with_its_error_and_the_tests_with_its_interval(run):
    run.write_plan(make_plan(0, 4, 0.97))
    assert drop_text(run) == "max drop 1: 1.00 of at most 1.00 points lost on validation"
    # Of 100 samples the plan gets 3 wrong that full precision gets right, and 2 the other way round.
    full, plan = np.ones(100, bool), np.ones(100, bool)
    full[:2], plan[2:5] = False, False
    for path in (run.validation_file, run.test_file):
        save_file({"full-precision": full, "trial-0000": plan}, path)
    # Differences: three 1, two -1; their standard deviation is √((5 - 100·0.01²)/99).
    error = 100 * ((5 - 100 * 0.01**2) / 99) ** 0.5 / 10
    text = drop_text(run)
    assert text.startswith(f"max drop 1: 1.00 ± {error:.2f} of at most 1.00 points lost on validation; on test 1.00")
    assert text.endswith("(95 % interval -3.53 to +4.47)")


def test_settings_with_a_goal_come_back_as_written(run):
    assert RunFolder(run.path).settings.goal == AccuracyGoal.parse("1")
    assert run.settings.request == "max drop 1"
    with pytest.raises(ValueError, match=r"budgets is \[\], and there is no goal"):
        type(run.settings).model_validate(run.settings.model_dump() | {"goal": None})


@pytest.mark.parametrize(
    ("request_", "full_precision", "value", "direction", "limit", "achieved"),
    [
        # An error of 0.10 octaves that becomes 0.13; one that grows by a tenth; an R² that falls by as much.
        ("0.05", 0.10, 0.13, "down", 0.05, 0.03),
        ("10%", 0.10, 0.13, "down", 0.01, 0.03),
        ("250", 1000.0, 1300.0, "down", 250.0, 300.0),
        ("150%", 2.0, 4.0, "down", 3.0, 2.0),
        ("0.1", 0.9, 0.95, "up", 0.1, 0.0),
        ("50%", -2.0, -2.5, "up", 1.0, 0.5),
    ],
)
def test_a_score_that_is_no_share_has_a_goal_in_its_own_unit(
    request_, full_precision, value, direction, limit, achieved
):
    goal = AccuracyGoal.parse(request_)
    score = Score(name="error", share=False, unit="Hz", direction=direction)
    goal.check(score)
    outcome = goal.outcome(full_precision, value, 0.0, score)
    assert (outcome.metric, outcome.met) == (SCORE_DROP, achieved <= limit)
    assert (outcome.limit, outcome.achieved) == (pytest.approx(limit), pytest.approx(achieved))


@pytest.mark.parametrize("request_", ["101", "100.5%"])
def test_no_more_than_all_of_a_share_can_be_lost(request_):
    with pytest.raises(InputError, match="is all of the accuracy and more; give at most 100"):
        AccuracyGoal.parse(request_).check(ACCURACY)
