import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from bitsearch.plan import UniformBits
from bitsearch.study.front import TARGET, FrontAxis, UniformCandidate
from bitsearch.study.study import BASELINE, ROLE, SEARCHED, UNIFORM

COSTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


def candidate(cost, bits):
    return UniformCandidate(bits=UniformBits(weight_bits=bits, spike_bits=1, time_steps=1), cost=cost)


def axis_of(**changes):
    fields = {
        "metric": "bit_budget",
        "low": 1.0,
        "high": 64.0,
        "limit": 16.0,
        "least": 0.1,
        "most": 0.9,
        "uniform": tuple(candidate(cost, bits) for bits, cost in enumerate(COSTS, start=1)),
        "trials": 6,
        "uniform_trials": 4,
    }
    return FrontAxis(**fields | changes)


def trial_of(role, state=TrialState.COMPLETE, cost=None, accuracy=None, bits=None, target=None):
    values = [accuracy, cost] if state == TrialState.COMPLETE else None
    attributes = {ROLE: role} | ({} if bits is None else {UNIFORM: str(bits)})
    parameters = {} if target is None else {TARGET: target}
    distributions = {} if target is None else {TARGET: FloatDistribution(1.0, 64.0, log=True)}
    return create_trial(
        state=state, values=values, user_attrs=attributes, params=parameters, distributions=distributions
    )


def test_the_first_goes_to_the_middle_of_the_axis():
    assert axis_of().next_target([]) == pytest.approx(8.0)


def test_a_result_at_the_budget_sends_the_next_below_it():
    # From 1 to 16 accuracy rises by 0.75 over log 16, from 16 to 64 by 0.05 over log 4.
    assert axis_of().next_target([(16.0, 0.85)]) == pytest.approx(4.0)


def test_nothing_goes_where_accuracy_has_stopped_rising():
    points = [(1.2, 0.9), (16.0, 0.9), (40.0, 0.88)]
    assert axis_of().next_target(points) == pytest.approx(math.sqrt(1.2))


def test_a_plan_that_a_cheaper_one_beats_still_divides_the_axis():
    points = [(2.0, 0.5), (8.0, 0.4), (16.0, 0.85)]
    # Between 2 and 8 nothing is to be won; from 8 to 16 0.35 over log 2, from 1 to 2 0.4 over log 2.
    assert axis_of().next_target(points) == pytest.approx(math.sqrt(2.0))
    assert axis_of().next_target([(1.0, 0.5), *points]) == pytest.approx(math.sqrt(8.0 * 16.0))


def test_a_running_trial_is_taken_to_lie_halfway():
    assert axis_of().next_target([(8.0, None)]) in (pytest.approx(math.sqrt(8.0)), pytest.approx(math.sqrt(512.0)))
    both = [(8.0, None), (math.sqrt(8.0), None)]
    assert axis_of().next_target(both) == pytest.approx(math.sqrt(512.0))


@given(st.lists(st.tuples(st.floats(0.5, 100), st.none() | st.floats(0, 1)), max_size=12), st.integers(0, 5))
def test_it_stays_on_the_axis(points, more):
    axis = axis_of()
    for _ in range(more):
        points = [*points, (axis.next_target(points), None)]
    target = axis.next_target(points)
    assert 1.0 <= target <= 64.0


def test_targets_that_bring_nothing_new_are_not_repeated():
    axis, points = axis_of(), []
    for _ in range(10):
        target = axis.next_target(points)
        assert all(abs(math.log(target / cost)) > 0.01 for cost, _ in points)
        points.append((target, 0.5))


def test_uniform_plans_go_by_the_same_rule_and_never_twice():
    axis, trials = axis_of(), []
    accuracies = dict(zip(COSTS, (0.3, 0.5, 0.7, 0.8, 0.85, 0.86, 0.87), strict=True))
    costs = {str(candidate.bits): candidate.cost for candidate in axis.uniform}
    order = []
    while (bits := axis.next_uniform(trials)) is not None:
        order.append(costs[str(bits)])
        trials.append(trial_of(BASELINE, cost=order[-1], accuracy=accuracies[order[-1]], bits=bits))
    assert order[0] == 1.0
    assert order[1] == 8.0
    assert order[2] in (2.0, 4.0)
    assert sorted(order) == list(COSTS)


def test_uniform_plans_that_run_are_not_taken_again():
    axis = axis_of()
    first = axis.next_uniform([])
    running = trial_of(BASELINE, TrialState.RUNNING, bits=first)
    assert axis.next_uniform([running]) not in (None, first)


def test_trials_are_known_by_their_results_and_by_where_they_aim():
    first = axis_of().uniform[0].bits
    trials = [
        trial_of(SEARCHED, cost=4.0, accuracy=0.6, target=5.0),
        trial_of(SEARCHED, cost=7.0, accuracy=0.65, target=7.0),
        trial_of(SEARCHED, TrialState.RUNNING, target=16.0),
        trial_of(SEARCHED, TrialState.FAIL, target=2.0),
        trial_of(BASELINE, cost=8.0, accuracy=0.7),
        trial_of(BASELINE, TrialState.RUNNING, bits=first),
    ]
    # The first plan is also what a search for 5 ends with.
    assert axis_of().points(trials) == [(4.0, 0.6), (5.0, 0.6), (7.0, 0.65), (16.0, None), (8.0, 0.7), (1.0, None)]


def test_a_search_that_ends_below_its_target_is_not_sent_there_again():
    axis = axis_of()
    trials = [trial_of(BASELINE, cost=1.0, accuracy=0.5), trial_of(BASELINE, cost=16.0, accuracy=0.9)]
    targets = []
    for _ in range(6):
        targets.append(axis.next_target(axis.points(trials)))
        trials.append(trial_of(SEARCHED, cost=2.0, accuracy=0.5, target=max(2.0, targets[-1])))
    assert len(set(targets)) == 6


def test_an_error_of_the_score_makes_every_rectangle_up_to_the_budget_higher():
    # From 1 to 1.1 accuracy rises by 0.5, from 1.1 to 16 and on to 64 by nothing.
    points = [(1.0, 0.4), (1.1, 0.9), (16.0, 0.9)]
    assert axis_of().next_target(points) == pytest.approx(math.sqrt(1.1))
    # log(16/1.1)·σ/√(2π) is more than log(1.1)·(0.5 + σ/√(2π)) from σ = 0.0463 on.
    assert axis_of(error=0.046).next_target(points) == pytest.approx(math.sqrt(1.1))
    assert axis_of(error=0.047).next_target(points) == pytest.approx(math.sqrt(1.1 * 16))
    # Nothing is expected of what costs more than the budget and is no better; without one, the whole axis is searched.
    points = [*points, (1.05, 0.4), (2.0, 0.9), (4.0, 0.9), (8.0, 0.9)]
    assert axis_of(error=10.0).next_target(points) < 16.0
    assert axis_of(error=10.0, limit=None).next_target(points) == pytest.approx(32.0)


def test_an_unlucky_plan_does_not_end_the_search_around_it():
    def spread(error):
        axis, points = axis_of(high=16.0, error=error), [(1.0, 0.5)]
        for _ in range(12):
            target = axis.next_target(points)
            points.append((target, 0.9 if target > 9.0 else 0.5))
        return sum(cost < 6.0 for cost, _ in points)

    # By accuracies alone, all trials but one crowd around the step at 9.
    assert spread(0.0) == 2
    assert spread(0.1) >= 5


def test_an_error_is_no_reason_to_search_where_the_plan_is_known():
    axis, trials = axis_of(limit=None, error=0.1), [trial_of(BASELINE, cost=1.0, accuracy=0.9)]
    spans = []
    # Another budget keeps every plan below 10, whatever it may cost on the axis.
    for _ in range(12):
        assert axis.spans(trials) == spans
        target = axis.next_target(axis.points(trials), spans)
        assert not any(low < target < high for low, high in spans)
        trials.append(trial_of(SEARCHED, cost=min(target, 10.0), accuracy=0.9, target=target))
        spans += [(10.0, target)] if target > 10.0 else []
    assert spans


def test_the_widest_gap_is_halved_where_nothing_can_be_won():
    points = [(1.0, 0.9), (2.0, 0.9), (4.0, 0.9), (16.0, 0.9)]
    assert axis_of(high=16.0).next_target(points) == pytest.approx(8.0)


@pytest.mark.parametrize("changes", [{"low": 0.0}, {"limit": 0.5}, {"limit": 65.0}, {"low": 65.0, "limit": None}])
def test_ends_that_are_not_in_order_are_refused(changes):
    with pytest.raises(ValueError, match="not in this order"):
        axis_of(**changes)
