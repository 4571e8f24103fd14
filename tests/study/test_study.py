import optuna
import pytest
from optuna.trial import TrialState

from bitsearch.errors import StorageError
from bitsearch.runs.folder import RunFolder
from bitsearch.study.database.storage import open_storage
from bitsearch.study.study import (
    BASELINE,
    DUPLICATE,
    FAILURE,
    ROLE,
    add_intermediate,
    finished_trials,
    is_finished,
    load_study,
    open_study,
    requeue_lost,
    reset_interrupted,
)

# The study is asked directly here; in a run, Optuna's own loop sends the heartbeats.
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")


@pytest.fixture
def study(tmp_path):
    return open_study(open_storage(f"sqlite:///{tmp_path / 'study.db'}"), "test")


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
    reset_interrupted(study)
    again = study.ask()
    assert again.number == trial.number
    assert again.suggest_float("price", 0, 1) == given
    assert again.user_attrs[ROLE] == BASELINE
    assert len(study.trials) == 1


def test_a_surplus_retry_does_not_stand_for_the_trial_that_was_lost(study):
    lost = study.ask()
    study.tell(lost, state=TrialState.FAIL)
    requeue_lost(study)
    surplus = study.ask()
    surplus.set_user_attr(ROLE, DUPLICATE)
    study.tell(surplus, state=TrialState.FAIL)
    requeue_lost(study)
    assert [trial.system_attrs["failed_trial"] for trial in study.get_trials(states=[TrialState.WAITING])] == [0]


def test_what_was_given_up_and_never_queued_again_is_queued_once(study):
    for attributes in ({}, {FAILURE: "loss is nan"}, {ROLE: DUPLICATE}):
        trial = study.ask()
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        study.tell(trial, state=TrialState.FAIL)
    for _ in range(2):
        requeue_lost(study)
    waiting = study.get_trials(states=[TrialState.WAITING])
    assert [trial.system_attrs["failed_trial"] for trial in waiting] == [0]
    assert [is_finished(trial) for trial in study.trials] == [False, True, True, False]


def test_a_part_is_recorded_once_however_often_its_trial_is_begun(study, tmp_path):
    trial = study.ask()
    trial.suggest_float("price", 0, 1)
    numbers = [add_intermediate(trial, 0, index, [0.5, 2.0], {"bit_budget": -1.0}, {}) for index in (0, 1, 0)]
    assert numbers == [1, 2, 1]
    study.tell(trial, [0.5, 1.0])
    assert study.trials[1].params == study.trials[0].params
    assert study.trials[1].constraints == {"bit_budget": -1.0}
    assert finished_trials(RunFolder(tmp_path)) == []


def test_a_run_without_a_study_gets_none(tmp_path):
    assert finished_trials(RunFolder(tmp_path)) == []
    assert load_study(RunFolder(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["text", "cut", "page", "version"])
def test_a_damaged_study_is_told_in_one_line(damage, tmp_path):
    folder = RunFolder(tmp_path)
    study = open_study(open_storage(folder.storage_url), "bitsearch")
    study.add_trial(optuna.trial.create_trial(values=[0.5, 1.0]))
    study._storage._backend.engine.dispose()
    content = folder.study_file.read_bytes()
    damaged = {
        "text": b"no database " * 100,
        "cut": content[: len(content) // 2],
        "page": content[:4096] + b"\xff" * (len(content) - 4096),
        "version": content.replace(b"v3.2.0.a", b"v9.9.9.z"),
    }[damage]
    folder.study_file.write_bytes(damaged)
    with pytest.raises(StorageError, match=r"cannot read the study .*study\.db: .*; restore the file, or delete it"):
        finished_trials(folder)
