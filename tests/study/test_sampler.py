import random

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

import bitsearch.study.sampler as sampler_module
from bitsearch.parameters import Parameter
from bitsearch.renamed import current_name
from bitsearch.study.database.storage import open_storage
from bitsearch.study.sampler import TrialSampler, starting_points, suggest
from bitsearch.study.study import open_study, reset_interrupted
from bitsearch.study.trial_roles import StudyPlan

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")


def space_with(tiny_space, sampler):
    return tiny_space.model_copy(update={"search": tiny_space.search.model_copy(update={"sampler": sampler})})


def opened(folder, space, seed=0, study_plan=StudyPlan(100)):  # noqa: B008  frozen
    """The study as a new process opens it."""
    study = open_study(open_storage(f"sqlite:///{folder / 'study.db'}"), "test")
    study.sampler = TrialSampler(space, seed, study_plan)
    return study


def sampled(folder, space, trials, interrupted=lambda number: None):
    """What ``trials`` trials try; ``interrupted(number)`` tells after how many parameters a kill comes, if at all."""
    found = []
    for number in range(trials):
        after = interrupted(number)
        if after is not None:
            trial = opened(folder, space).ask()
            for name, parameter in list(space.search.parameters.items())[:after]:
                one = space.search.model_copy(update={"parameters": {name: parameter}})
                suggest(trial, space.model_copy(update={"search": one}))
        study = opened(folder, space)
        reset_interrupted(study)
        trial = study.ask()
        found.append(suggest(trial, space))
        study.tell(trial, [0.5 + 0.01 * number, 1.0 + found[-1]["weight_price"]])
    return found


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_trials_interrupted_between_two_parameters_try_what_they_would_have_tried(sampler, tiny_space, tmp_path):
    space = space_with(tiny_space, sampler)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    undisturbed = sampled(tmp_path / "a", space, 8)
    assert sampled(tmp_path / "b", space, 8, interrupted=lambda number: number % 4) == undisturbed
    for values in undisturbed:
        assert 0.5 <= values["budget_share"] <= 1.0
        assert values["estimator"] in ("curvature", "straight_through")
    assert len({values["weight_price"] for values in undisturbed}) == 8


def test_the_first_trial_gets_the_spaces_own_settings(tiny_space, tmp_path):
    [own] = starting_points(tiny_space)
    assert own == {"budget_share": 1.0, "weight_price": 1.0, "estimator": "curvature"}
    assert sampled(tmp_path, tiny_space, 1) == [own]


def test_each_method_that_may_vary_is_tried_once_with_the_spaces_own_settings(tiny_space, tmp_path):
    methods = Parameter(choices=["sensitivity", "random", "adaptive"])
    search = tiny_space.search.model_copy(update={"parameters": tiny_space.search.parameters | {"method": methods}})
    space = tiny_space.model_copy(update={"search": search})
    own = {"budget_share": 1.0, "weight_price": 1.0, "estimator": "curvature"}
    tried = sampled(tmp_path, space, 4, interrupted=lambda number: number)
    assert tried[:3] == [own | {"method": method} for method in ("adaptive", "sensitivity", "random")]
    assert tried[3]["weight_price"] != 1.0


@pytest.mark.parametrize("interrupted", [1, 2, 3, 4])
def test_a_study_begun_by_old_names_goes_on_by_them(interrupted, tiny_space, tmp_path):
    renamed = {"ramp.steps": Parameter(choices=[2, 3, 4, 5]), "renewal.enabled": Parameter(choices=[True, False])}
    search = tiny_space.search.model_copy(update={"parameters": renamed | tiny_space.search.parameters})
    space, old_names = tiny_space.model_copy(update={"search": search}), ["ramp_steps", "renewal"]

    def asked(folder, trials):
        folder.mkdir()
        return [suggest(opened(folder, space).ask(), space) for _ in range(trials)], opened(folder, space)

    undisturbed, study = asked(tmp_path / "new", 3)
    assert all(not set(old_names) & set(trial.params) for trial in study.trials)
    (tmp_path / "old").mkdir()
    study = opened(tmp_path / "old", space)
    trial = study.ask()
    for name in ["ramp_steps", "renewal", "budget_share", "weight_price"][:interrupted]:
        if name in old_names:
            trial.suggest_categorical(name, renamed[current_name(name)].choices)
        else:
            suggest(trial, with_parameters(space, name))
    reset_interrupted(study)
    tried = [suggest(opened(tmp_path / "old", space).ask(), space) for _ in range(3)]
    assert tried == undisturbed
    assert tried[0] == starting_points(space)[0]
    recorded = set(opened(tmp_path / "old", space).trials[-1].params)
    assert "ramp_steps" in recorded
    assert "ramp.steps" not in recorded


def with_parameters(space, *names):
    search = space.search.model_copy(update={"parameters": {name: space.search.parameters[name] for name in names}})
    return space.model_copy(update={"search": search})


def test_two_workers_at_once_try_different_values(tiny_space, tmp_path):
    first, second = opened(tmp_path, tiny_space), opened(tmp_path, tiny_space)
    first.tell(first.ask(), [0.5, 1.0])
    assert suggest(first.ask(), tiny_space) != suggest(second.ask(), tiny_space)


def test_a_lost_trial_taken_again_tries_the_same(tiny_space, tmp_path):
    study = opened(tmp_path, tiny_space)
    study.tell(study.ask(), [0.5, 1.0])
    lost = study.ask()
    kept = study._storage.get_trial(lost._trial_id)
    expected = suggest(lost, tiny_space)
    study._storage.get_heartbeat_stale_trial_callback()(study, kept)
    again = study.ask()
    assert again.number == 2
    assert suggest(again, tiny_space) == expected


def test_the_first_trial_of_every_method_gets_the_spaces_own_settings_whatever_others_have_found(tiny_space, tmp_path):
    space = space_with(tiny_space, "nsga2")
    study = opened(tmp_path, space, study_plan=StudyPlan(6, (), ("adaptive", "random")))
    tried = []
    for number in range(4):
        trial = study.ask()
        tried.append(suggest(trial, space))
        study.tell(trial, [0.5, 1.0 + number])
    [own] = starting_points(space)
    assert [values == own for values in tried] == [True, True, False, False]


def finished(number, accuracy, cost, price):
    trial = create_trial(
        values=[accuracy, cost],
        params={"weight_price": price},
        distributions={"weight_price": FloatDistribution(0.2, 5.0, log=True)},
        constraints={"bit_budget": -1.0 if number % 5 else 1.0},
    )
    trial.number = number
    return trial


def test_what_a_sampler_sees_of_a_long_study_is_its_end_and_the_best_before_it(monkeypatch):
    monkeypatch.setattr(sampler_module, "MAX_HISTORY", 10)
    drawn = random.Random(0)
    trials = [finished(number, drawn.random(), drawn.random(), 1.0) for number in range(60)]
    history = sampler_module._History()
    for ended in (3, 15, 16, 40, 60):
        window = history.window(trials[:60], ended)
        assert window == sampler_module._History().window(trials, ended)
        before = [trial for trial in trials[: max(0, ended - 10)] if trial.number % 5]
        best = [one for one in before if not any(dominates(other, one) for other in before)]
        assert sorted(trial.number for trial in window) == sorted(
            [trial.number for trial in best] + list(range(max(0, ended - 10), 60))
        )


def dominates(one, other):
    better = one.values[0] >= other.values[0] and one.values[1] <= other.values[1]
    return better and one.values != other.values


@pytest.mark.parametrize("history", [10, 1000])
def test_trials_long_gone_and_beaten_change_nothing(history, tiny_space, tmp_path, monkeypatch):
    monkeypatch.setattr(sampler_module, "MAX_HISTORY", history)
    tried = []
    for old in (0.3, 4.0):
        (tmp_path / str(old)).mkdir()
        study = opened(tmp_path / str(old), space_with(tiny_space, "tpe"))
        for number in range(30):
            is_old = 1 < number < 18
            study.add_trial(
                finished(number, 0.5 if is_old else 0.9, 2.0 if is_old else 1.0, old if is_old else 1.0 + number / 30)
            )
        tried.append(suggest(study.ask(), tiny_space)["weight_price"])
    assert (tried[0] == tried[1]) == (history == 10)
