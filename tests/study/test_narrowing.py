import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from test_front import axis_of

from bitsearch.plan import DROP
from bitsearch.study.front import TARGET
from bitsearch.study.narrowing import NEAR, STEP, is_settled, narrow, next_uniform, tries
from bitsearch.study.study import BASELINE, ROLE, SEARCHED
from bitsearch.study.trial_roles import StudyPlan, TrialSchedule

AXIS = axis_of(limit=None, narrows=True)


def trial(cost, excess, role=SEARCHED, target=None, **budgets):
    target = cost if target is None else target
    return create_trial(
        values=[0.5, cost],
        user_attrs={ROLE: role},
        params={TARGET: target},
        distributions={TARGET: FloatDistribution(1.0, 64.0, log=True)},
        constraints={DROP: excess} | budgets,
    )


def running(target):
    return create_trial(
        state=TrialState.RUNNING,
        user_attrs={ROLE: SEARCHED},
        params={TARGET: target},
        distributions={TARGET: FloatDistribution(1.0, 64.0, log=True)},
    )


def aim(*trials, uniform=False):
    return narrow(AXIS, trials, uniform=uniform)


def test_the_first_goes_to_the_middle():
    assert aim() == (pytest.approx(8.0), False)


def test_after_a_plan_within_the_goal_the_half_below_it_is_halved():
    assert aim(trial(8.0, -0.001)).cost == pytest.approx(math.sqrt(8.0))


def test_between_a_miss_and_a_plan_within_the_straight_line_says_where():
    # Missed by 1 at 4, kept by 1 at 16: crossed in the middle, 8; kept by 2: a third of the way.
    assert aim(trial(4.0, 0.01), trial(16.0, -0.01)).cost == pytest.approx(8.0)
    assert aim(trial(4.0, 0.01), trial(16.0, -0.02)).cost == pytest.approx(4 * 4 ** (1 / 3))
    # But never nearer than a quarter of the way.
    assert aim(trial(4.0, 0.5), trial(16.0, 0.0)).cost == pytest.approx(4 * 4**0.75)


def test_a_miss_is_counted_at_what_it_might_have_cost():
    assert aim(trial(2.0, 0.01, target=4.0), trial(16.0, -0.01)).cost == pytest.approx(8.0)


def test_the_cheapest_within_the_goal_counts_whoever_found_it_and_a_miss_for_its_kind_alone():
    trials = trial(4.0, 0.01, BASELINE), trial(16.0, -0.01, BASELINE)
    assert aim(*trials, uniform=True).cost == pytest.approx(8.0)
    assert aim(*trials).cost == pytest.approx(4.0)


def test_a_plan_over_a_budget_keeps_no_goal():
    assert aim(trial(4.0, -0.01, energy=1.0)).cost == pytest.approx(8.0)


def test_two_misses_without_a_plan_within_send_the_third_to_the_dearest():
    assert aim(trial(8.0, 0.1)).cost == pytest.approx(math.sqrt(8 * 64))
    assert aim(trial(8.0, 0.1), trial(20.0, 0.1)) == (64.0, False)
    # Nothing is dearer: other settings have to do it.
    assert aim(trial(8.0, 0.1), trial(20.0, 0.1), trial(64.0, 0.1)) == (64.0, True)


def test_once_they_have_met_other_settings_are_tried_a_step_below():
    assert aim(trial(8.0, 0.01), trial(8.1, -0.01)) == (pytest.approx(8.1 / STEP), True)


def test_nothing_is_left_to_save_once_the_cheapest_plan_keeps_the_goal():
    assert is_settled(AXIS, [trial(1.01, -0.01)])
    assert not is_settled(AXIS, [trial(1.01, 0.01), trial(1.1, -0.01)])
    schedule = TrialSchedule(StudyPlan(6, (), (), AXIS))
    assert not schedule.is_open([trial(1.01, -0.01)])
    assert schedule.is_open([trial(1.01, 0.01)])


def test_the_next_uniform_plan_would_save_something():
    # Candidates cost 1, 2, 4, … 64. Aimed at is √32 ≈ 5.7, between 4 and 8.
    assert next_uniform(AXIS, [trial(4.0, 0.01, BASELINE), trial(8.0, -0.01, BASELINE)]).weight_bits == 3
    # 8 is the nearest to 7.5, and would save nothing.
    assert next_uniform(AXIS, [trial(7.4, 0.01, BASELINE), trial(7.6, -0.01)]).weight_bits == 3


def test_trials_that_run_share_what_is_between():
    first = aim(trial(4.0, 0.01), trial(16.0, -0.01)).cost
    second = aim(trial(4.0, 0.01), trial(16.0, -0.01), running(first)).cost
    assert second != pytest.approx(first)
    assert 4 < second < 16


@given(st.floats(1.001, 63.9), st.floats(0.01, 10.0))
def test_a_goal_that_is_kept_from_some_cost_on_is_narrowed_to_it(threshold, steepness):
    """A plan's loss falls with the logarithm of its cost, and every plan costs what it may."""
    trials = []
    for _ in range(40):
        target, varied = aim(*trials)
        if varied:
            break
        trials.append(trial(target, steepness * (math.log(threshold) - math.log(target))))
    within = [trial.values[1] for trial in trials if trial.constraints[DROP] <= 0]
    assert varied
    assert threshold * (1 - 1e-9) <= min(within) <= threshold * NEAR**2
    assert len(trials) <= 20


@pytest.mark.parametrize(("candidates", "count"), [(0, 0), (1, 1), (2, 2), (3, 3), (7, 5), (100, 9)])
def test_uniform_plans_are_as_many_as_a_bisection_takes(candidates, count):
    assert tries(candidates) == count
