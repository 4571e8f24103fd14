import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState, create_trial

from bitsearch.plan import UniformBits
from bitsearch.search.storage import open_storage
from bitsearch.search.study import (
    BASELINE,
    FAILURE,
    PART,
    PART_OF,
    ROLE,
    SEARCHED,
    SURPLUS,
    Wanted,
    add_part,
    finished_trials,
    is_settled,
    open_study,
    release_interrupted,
    requeue_lost,
)

# The study is asked directly here; in a run, Optuna's own loop sends the heartbeats.
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")

UNIFORM = [UniformBits(weight_bits=bits, spike_bits=bits, time_steps=1) for bits in range(1, 9)]


@pytest.fixture
def study(tmp_path):
    return open_study(open_storage(f"sqlite:///{tmp_path / 'study.db'}"), "test")


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


def test_the_study_is_created_once_and_then_loaded(study, tmp_path):
    study.add_trial(optuna.trial.create_trial(values=[0.5, 1.0]))
    again = open_study(open_storage(f"sqlite:///{tmp_path / 'study.db'}"), "test")
    assert len(again.trials) == 1
    assert [direction.name for direction in again.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert again._storage.get_heartbeat_interval() == 30


def test_an_interrupted_trial_goes_on_under_its_number_with_its_parameters(study):
    trial = study.ask()
    given = trial.suggest_float("price", 0, 1)
    trial.set_user_attr(ROLE, BASELINE)
    release_interrupted(study)
    again = study.ask()
    assert again.number == trial.number
    assert again.suggest_float("price", 0, 1) == given
    assert again.user_attrs[ROLE] == BASELINE
    assert len(study.trials) == 1


RUNNING = (TrialState.RUNNING, {}, None)


def test_adaptive_and_uniform_trials_take_turns_until_either_is_used_up():
    trials = numbered(*[RUNNING] * 7)
    for adaptive, uniform, expected in ((3, 3, "auauau-"), (2, 4, "auauuu-"), (5, 1, "auaaaa-"), (1, 0, "a------")):
        wanted = Wanted(adaptive, UNIFORM[:uniform])
        letters = {SEARCHED: "a", BASELINE: "u", SURPLUS: "-"}
        assert "".join(letters[role] for role in wanted.roles(trials).values()) == expected
        assert wanted.begun(trials) == wanted.total == adaptive + uniform


def test_every_uniform_plan_is_given_once():
    trials = numbered(*[RUNNING] * 8)
    wanted = Wanted(4, UNIFORM[:4])
    turns = [wanted.turn(trials, number) for number in range(8)]
    assert [turn.bits for turn in turns if turn.role == BASELINE] == UNIFORM[:4]
    assert [turn.bits for turn in turns if turn.role == SEARCHED] == [None] * 4


@given(adaptive=st.integers(0, 6), uniform=st.integers(0, 6), seen=st.integers(0, 12), data=st.data())
def test_a_worker_that_has_not_seen_the_others_decisions_comes_to_the_same(adaptive, uniform, seen, data):
    wanted = Wanted(adaptive, UNIFORM[:uniform])
    blank = numbered(*[RUNNING] * 13)
    roles = wanted.roles(blank)
    known = [
        (TrialState.RUNNING, {ROLE: roles[number]} if data.draw(st.booleans()) else {}, None) for number in range(seen)
    ]
    partly = numbered(*known, *[RUNNING] * (13 - seen))
    assert wanted.roles(partly) == roles


def test_more_trials_asked_for_later_leave_what_is_done_as_it_is():
    first = Wanted(1, UNIFORM[:4])
    done = first.roles(numbered(*[RUNNING] * 5))
    trials = numbered(*[(TrialState.COMPLETE, {ROLE: role}, None) for role in done.values()], *[RUNNING] * 3)
    roles = Wanted(4, UNIFORM[:4]).roles(trials)
    assert list(roles.values()).count(SEARCHED) == 4
    assert list(roles.values()).count(BASELINE) == 4


def test_a_lost_trial_is_done_by_the_first_that_takes_it_again_and_by_no_other():
    lost, failed = (TrialState.FAIL, {ROLE: SEARCHED}, None), TrialState.FAIL
    retry, done = (TrialState.RUNNING, {}, 0), (TrialState.COMPLETE, {}, 0)
    wanted = Wanted(2, UNIFORM[:1])
    roles = wanted.roles(numbered(lost, RUNNING, retry, retry, RUNNING))
    assert list(roles.values()) == [SEARCHED, BASELINE, SEARCHED, SURPLUS, SEARCHED]
    again = wanted.roles(numbered(lost, RUNNING, (failed, {}, 0), retry))
    assert again[3] == SEARCHED
    assert wanted.roles(numbered(lost, RUNNING, done, retry))[3] == SURPLUS
    trials = numbered((failed, {ROLE: SEARCHED}, None), RUNNING, (failed, {}, 1), (TrialState.RUNNING, {}, 1))
    assert wanted.turn(trials, 3).bits == UNIFORM[0]
    assert wanted.turn(trials, 3).origin == 1


def test_a_surplus_retry_does_not_stand_for_the_trial_that_was_lost(study):
    lost = study.ask()
    study.tell(lost, state=TrialState.FAIL)
    requeue_lost(study)
    surplus = study.ask()
    surplus.set_user_attr(ROLE, SURPLUS)
    study.tell(surplus, state=TrialState.FAIL)
    requeue_lost(study)
    assert [trial.system_attrs["failed_trial"] for trial in study.get_trials(states=[TrialState.WAITING])] == [0]


def test_what_was_given_up_and_never_queued_again_is_queued_once(study):
    for attributes in ({}, {FAILURE: "loss is nan"}, {ROLE: SURPLUS}):
        trial = study.ask()
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        study.tell(trial, state=TrialState.FAIL)
    for _ in range(2):
        requeue_lost(study)
    waiting = study.get_trials(states=[TrialState.WAITING])
    assert [trial.system_attrs["failed_trial"] for trial in waiting] == [0]
    assert [is_settled(trial) for trial in study.trials] == [False, True, True, False]


def test_methods_take_turns_and_the_first_trial_of_each_has_the_spaces_own_knobs():
    wanted = Wanted(5, (), ("adaptive", "random"))
    turns = [wanted.turn(numbered(*[RUNNING] * 6), number) for number in range(6)]
    assert [(turn.method, turn.draw) for turn in turns[:5]] == [
        ("adaptive", 0), ("random", 0), ("adaptive", 1), ("random", 1), ("adaptive", 2),
    ]  # fmt: skip
    trials = numbered(*[RUNNING] * 200)
    assert [number for number in range(200) if wanted.has_defaults(trials, number)] == [0, 1]
    parts = [(TrialState.COMPLETE, {PART_OF: 0, PART: index}, None) for index in range(150)]
    late = numbered((TrialState.COMPLETE, {}, None), *parts, RUNNING, RUNNING)
    assert [wanted.has_defaults(late, number) for number in (151, 152)] == [True, False]
    assert turns[5].role == SURPLUS


def test_plans_left_on_the_way_take_nobodys_turn():
    parts = [(TrialState.COMPLETE, {PART_OF: 0, PART: index}, None) for index in range(3)]
    trials = numbered((TrialState.COMPLETE, {}, None), *parts, RUNNING, RUNNING)
    wanted = Wanted(2, UNIFORM[:1])
    assert list(wanted.roles(trials).values()) == [SEARCHED, PART, PART, PART, BASELINE, SEARCHED]
    assert wanted.turn(trials, 5).draw == 1
    assert wanted.begun(trials) == 3


def test_a_part_is_recorded_once_however_often_its_trial_is_begun(study, tmp_path):
    trial = study.ask()
    trial.suggest_float("price", 0, 1)
    numbers = [add_part(trial, 0, index, [0.5, 2.0], {"bit_budget": -1.0}, {}) for index in (0, 1, 0)]
    assert numbers == [1, 2, 1]
    study.tell(trial, [0.5, 1.0])
    assert study.trials[1].params == study.trials[0].params
    assert study.trials[1].constraints == {"bit_budget": -1.0}
    assert finished_trials(f"sqlite:///{tmp_path / 'study.db'}") == []
