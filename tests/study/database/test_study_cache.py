import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from profiles import examples

from bitsearch.study.database.storage import open_storage
from bitsearch.study.study import open_study

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")

STATES = [
    None,
    (TrialState.WAITING,),
    (TrialState.RUNNING, TrialState.WAITING),
    (TrialState.COMPLETE,),
    tuple(TrialState),
]


def opened(folder):
    return open_study(open_storage(f"sqlite:///{folder / 'study.db'}"), "test")


@given(data=st.data())
@examples(15)
def test_every_worker_sees_all_trials_in_order_as_they_are(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    workers, running = [opened(folder), opened(folder)], []
    for _ in range(10):
        worker = workers[data.draw(st.integers(0, 1))]
        if running and data.draw(st.booleans()):
            trial = running.pop(data.draw(st.integers(0, len(running) - 1)))
            state = data.draw(st.sampled_from([TrialState.COMPLETE, TrialState.FAIL]))
            worker.tell(trial, [0.5, 1.0] if state == TrialState.COMPLETE else None, state=state)
        else:
            running.append(worker.ask().number)
        looking = workers[data.draw(st.integers(0, 1))]
        states = data.draw(st.sampled_from(STATES))
        stored = looking._storage._backend.get_all_trials(looking._study_id, states=states)
        assert looking.get_trials(deepcopy=False, states=states) == stored
    for worker in workers:
        worker._storage._backend.close()


def test_finished_trials_are_read_once(tmp_path, monkeypatch):
    study = opened(tmp_path)
    backend, read = study._storage._backend, []
    original = backend._get_trials

    def reading(*arguments, **named):
        found = original(*arguments, **named)
        read.append(len(found))
        return found

    monkeypatch.setattr(backend, "_get_trials", reading)
    for _ in range(20):
        study.tell(study.ask(), [0.5, 1.0])
    assert max(read) == 1


def test_a_trial_begun_elsewhere_gets_its_parameters(tmp_path):
    begun = opened(tmp_path).ask()
    fresh = opened(tmp_path)._storage
    fresh.set_trial_param(begun._trial_id, "price", 0.5, FloatDistribution(0, 1))
    assert fresh.get_trial(begun._trial_id).params == {"price": 0.5}
