import optuna
import pytest
from optuna.trial import TrialState

from bitsearch.search.study import (
    default_parameters,
    finished,
    is_baseline,
    make_sampler,
    open_study,
    retry_interrupted,
    suggest,
)

# The study is asked directly here; in a run, Optuna's own loop sends the heartbeats.
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")


@pytest.fixture
def study(tmp_path):
    return open_study(f"sqlite:///{tmp_path / 'study.db'}", "test")


def test_the_study_is_created_once_and_then_loaded(study, tmp_path):
    study.add_trial(optuna.trial.create_trial(values=[0.5, 1.0]))
    again = open_study(f"sqlite:///{tmp_path / 'study.db'}", "test")
    assert len(again.trials) == 1
    assert [direction.name for direction in again.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert again._storage.get_heartbeat_interval() == 30


def test_an_interrupted_trial_is_given_up_and_queued_again_with_its_parameters(study, tiny_space):
    trial = study.ask()
    given = suggest(trial, tiny_space)
    trial.set_user_attr("bits", {})
    retry_interrupted(study)
    assert study.trials[trial.number].state == TrialState.FAIL
    retried = study.ask()
    assert suggest(retried, tiny_space) == given
    assert is_baseline(retried)
    assert finished(study).total() == 0


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_every_sampler_gives_values_within_the_space_and_repeats_none_after_a_restart(study, tiny_space, sampler):
    space = tiny_space.model_copy(update={"search": tiny_space.search.model_copy(update={"sampler": sampler})})
    seen = []
    for number in range(4):
        study.sampler = make_sampler(space, seed=0, finished=number)
        trial = study.ask()
        values = suggest(trial, space)
        assert 0.5 <= values["budget_share"] <= 1.0
        assert values["estimator"] in ("curvature", "straight_through")
        seen.append(values["weight_price"])
        study.tell(trial, [0.5, 1.0])
    assert len(set(seen)) == 4


def test_the_first_trial_gets_the_spaces_own_knobs(tiny_space):
    assert default_parameters(tiny_space) == {"budget_share": 1.0, "weight_price": 1.0, "estimator": "curvature"}
