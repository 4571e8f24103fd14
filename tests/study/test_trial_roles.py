from hypothesis import given as drawn
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from bitsearch.plan import UniformBits
from bitsearch.study.study import BASELINE, DUPLICATE, INTERMEDIATE, INTERMEDIATE_OF, ROLE, SEARCHED
from bitsearch.study.trial_roles import StudyPlan, TrialSchedule

UNIFORM = [UniformBits(weight_bits=bits, spike_bits=bits, time_steps=1) for bits in range(1, 9)]
RUNNING = (TrialState.RUNNING, {}, None)


def numbered(*given):
    """Trials of a study: each (state, attributes, origin or None)."""
    trials = []
    for number, (state, attributes, origin) in enumerate(given):
        values = [0.5, 1.0] if state == TrialState.COMPLETE else None
        retry = {} if origin is None else {"failed_trial": origin}
        trial: FrozenTrial = create_trial(state=state, values=values, user_attrs=attributes, system_attrs=retry)
        trial.number = number
        trials.append(trial)
    return trials


def test_adaptive_and_uniform_trials_take_turns_until_either_is_used_up():
    trials = numbered(*[RUNNING] * 7)
    for adaptive, uniform, expected in ((3, 3, "auauau-"), (2, 4, "auauuu-"), (5, 1, "auaaaa-"), (1, 0, "a------")):
        turns = TrialSchedule(StudyPlan(adaptive, UNIFORM[:uniform]))
        letters = {SEARCHED: "a", BASELINE: "u", DUPLICATE: "-"}
        assert "".join(letters[role] for role in turns.roles(trials)) == expected
        assert turns.begun(trials) == turns.study_plan.total == adaptive + uniform


def test_every_uniform_plan_is_given_once():
    trials = numbered(*[RUNNING] * 8)
    turns = TrialSchedule(StudyPlan(4, UNIFORM[:4]))
    given = [turns.assignment(trials, number) for number in range(8)]
    assert [assignment.bits for assignment in given if assignment.role == BASELINE] == UNIFORM[:4]
    assert [assignment.bits for assignment in given if assignment.role == SEARCHED] == [None] * 4


@drawn(adaptive=st.integers(0, 6), uniform=st.integers(0, 6), seen=st.integers(0, 12), data=st.data())
def test_a_worker_that_has_not_seen_the_others_decisions_comes_to_the_same(adaptive, uniform, seen, data):
    turns = TrialSchedule(StudyPlan(adaptive, UNIFORM[:uniform]))
    blank = numbered(*[RUNNING] * 13)
    roles = turns.roles(blank)
    known = [
        (TrialState.RUNNING, {ROLE: roles[number]} if data.draw(st.booleans()) else {}, None) for number in range(seen)
    ]
    partly = numbered(*known, *[RUNNING] * (13 - seen))
    assert turns.roles(partly) == roles


def test_more_trials_asked_for_later_leave_what_is_done_as_it_is():
    first = TrialSchedule(StudyPlan(1, UNIFORM[:4]))
    done = first.roles(numbered(*[RUNNING] * 5))
    trials = numbered(*[(TrialState.COMPLETE, {ROLE: role}, None) for role in done], *[RUNNING] * 3)
    roles = TrialSchedule(StudyPlan(4, UNIFORM[:4])).roles(trials)
    assert roles.count(SEARCHED) == 4
    assert roles.count(BASELINE) == 4


def test_a_lost_trial_is_done_by_the_first_that_takes_it_again_and_by_no_other():
    lost, failed = (TrialState.FAIL, {ROLE: SEARCHED}, None), TrialState.FAIL
    retry, done = (TrialState.RUNNING, {}, 0), (TrialState.COMPLETE, {}, 0)

    def roles(*given):
        return TrialSchedule(StudyPlan(2, UNIFORM[:1])).roles(numbered(*given))

    assert roles(lost, RUNNING, retry, retry, RUNNING) == [SEARCHED, BASELINE, SEARCHED, DUPLICATE, SEARCHED]
    assert roles(lost, RUNNING, (failed, {}, 0), retry)[3] == SEARCHED
    assert roles(lost, RUNNING, done, retry)[3] == DUPLICATE
    trials = numbered((failed, {ROLE: SEARCHED}, None), RUNNING, (failed, {}, 1), (TrialState.RUNNING, {}, 1))
    assignment = TrialSchedule(StudyPlan(2, UNIFORM[:1])).assignment(trials, 3)
    assert assignment.bits == UNIFORM[0]
    assert assignment.origin == 1


def test_methods_take_turns_and_each_counts_its_own_trials():
    turns = TrialSchedule(StudyPlan(5, (), ("adaptive", "random")))
    given = [turns.assignment(numbered(*[RUNNING] * 6), number) for number in range(6)]
    assert [(assignment.method, assignment.attempt) for assignment in given[:5]] == [
        ("adaptive", 0), ("random", 0), ("adaptive", 1), ("random", 1), ("adaptive", 2),
    ]  # fmt: skip
    trials = numbered(*[RUNNING] * 200)
    turn_of = [turns.assignment(trials, number) for number in range(200)]
    assert [
        number for number, assignment in enumerate(turn_of) if assignment.role == SEARCHED and assignment.attempt == 0
    ] == [0, 1]
    turns = TrialSchedule(turns.study_plan)
    parts = [(TrialState.COMPLETE, {INTERMEDIATE_OF: 0, INTERMEDIATE: index}, None) for index in range(150)]
    late = numbered((TrialState.COMPLETE, {}, None), *parts, RUNNING, RUNNING)
    last = [turns.assignment(late, number) for number in (151, 152)]
    assert [(assignment.role, assignment.attempt) for assignment in last] == [(SEARCHED, 0), (SEARCHED, 1)]
    assert given[5].role == DUPLICATE


def test_plans_left_on_the_way_take_nobodys_turn():
    parts = [(TrialState.COMPLETE, {INTERMEDIATE_OF: 0, INTERMEDIATE: index}, None) for index in range(3)]
    trials = numbered((TrialState.COMPLETE, {}, None), *parts, RUNNING, RUNNING)
    turns = TrialSchedule(StudyPlan(2, UNIFORM[:1]))
    assert turns.roles(trials) == [SEARCHED, INTERMEDIATE, INTERMEDIATE, INTERMEDIATE, BASELINE, SEARCHED]
    assert turns.assignment(trials, 5).attempt == 1
    assert turns.begun(trials) == 3


STATES = (TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE, TrialState.FAIL)


@drawn(data=st.data())
def test_who_has_watched_a_study_grow_comes_to_the_same_as_who_sees_it_for_the_first_time(data):
    study_plan = StudyPlan(data.draw(st.integers(1, 6)), UNIFORM[: data.draw(st.integers(0, 4))])
    watching, trials = TrialSchedule(study_plan), []
    for _ in range(12):
        for trial in trials:
            if not trial.state.is_finished() and data.draw(st.booleans()):
                state = data.draw(st.sampled_from(STATES))
                trial.values = [0.5, 1.0] if state == TrialState.COMPLETE else None
                trial.state = state
        again = data.draw(st.sampled_from([None, *[trial.number for trial in trials]]))
        lost = (
            again is not None
            and trials[again].state == TrialState.FAIL
            and "failed_trial" not in trials[again].system_attrs
        )
        (trial,) = numbered((TrialState.RUNNING, {}, again if lost else None))
        trial.number = len(trials)
        trials.append(trial)
        if data.draw(st.booleans()):
            trial.set_user_attr(ROLE, watching.roles(trials)[-1])
        fresh = TrialSchedule(study_plan)
        assert watching.roles(trials) == fresh.roles(trials)
        assert watching.begun(trials) == fresh.begun(trials)
        assert watching.assignment(trials, trial.number) == fresh.assignment(trials, trial.number)
    assert all(trial.state.is_finished() for trial in trials[: watching.ended])
