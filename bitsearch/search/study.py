"""The Optuna study of a run: storage with heartbeat, sampler, and which trial comes next."""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from bitsearch.space import SearchSpace

# Heartbeats and the grouped TPE are marked experimental by Optuna; a user of bitsearch can do nothing about that.
warnings.filterwarnings("ignore", category=ExperimentalWarning, module=r"(optuna|bitsearch)\.")

STUDY_NAME = "bitsearch"
"""Of the one study of a run."""
HEARTBEAT_SECONDS = 30
SEED_STRIDE = 100_003
"""Between the sampler seeds of two run seeds; more than any run has trials."""


def open_study(storage_url: str, name: str) -> optuna.Study:
    """Create the study or load it: validation accuracy up, cost down."""
    storage = RDBStorage(
        storage_url,
        heartbeat_interval=HEARTBEAT_SECONDS,
        grace_period=3 * HEARTBEAT_SECONDS,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
    )
    return optuna.create_study(
        storage=storage,
        study_name=name,
        directions=[StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE],
        load_if_exists=True,
    )


def load_study(storage_url: str) -> optuna.Study | None:
    """The study that a run wrote, to be read; None where there is none."""
    try:
        return optuna.load_study(study_name=STUDY_NAME, storage=storage_url)
    except KeyError:
        return None


def finished_trials(storage_url: str) -> list[FrozenTrial]:
    """The complete trials of a run's study without what these left on their way; none where it has no study."""
    study = load_study(storage_url)
    return [] if study is None else _complete(study)


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    # Optuna's trials are only read here; copying them all after every trial takes longer than reading them.
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [trial for trial in trials if "part_of" not in trial.user_attrs]


def retry_interrupted(study: optuna.Study) -> None:
    """Fail and queue again what a killed process left running; only for the sole owner of the storage."""
    retry = RetryHeartbeatStaleTrialCallback()
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
        retry(study, study._storage.get_trial(trial._trial_id))


def make_sampler(space: SearchSpace, seed: int, finished: int) -> BaseSampler:
    """The space's sampler for the next trial.

    Its seed is derived from the number of finished trials, so that a resumed run goes on as if it had never stopped.
    """
    own_seed = (seed * SEED_STRIDE + finished) % 2**32
    if space.search.sampler == "tpe":
        return TPESampler(seed=own_seed, multivariate=True, group=True, n_startup_trials=5)
    if space.search.sampler == "nsga2":
        return NSGAIISampler(seed=own_seed, population_size=16)
    return RandomSampler(seed=own_seed)


def suggest(trial: Trial, space: SearchSpace) -> dict[str, Any]:
    """This trial's values of the parameters that the space lets vary."""
    values: dict[str, Any] = {}
    for name, parameter in space.search.parameters.items():
        if parameter.range is not None:
            values[name] = trial.suggest_float(name, *parameter.range, log=parameter.log)
        else:
            values[name] = trial.suggest_categorical(name, parameter.choices or ())
    return values


def default_parameters(space: SearchSpace) -> dict[str, Any]:
    """The space's own knobs as parameters, for the first trial; those outside their range are left to the sampler."""
    own = {name: getattr(space.allocation, name) for name in space.search.parameters}
    return {name: value for name, value in own.items() if value in space.search.parameters[name]}


def is_baseline(trial: FrozenTrial | Trial) -> bool:
    """True for a uniform plan that is trained beside what is searched."""
    return "bits" in trial.user_attrs


def finished(study: optuna.Study) -> Counter[str]:
    """How many trials are complete: ``baselines``, and ``searched``, not counting what these left on their way."""
    return Counter("baselines" if is_baseline(trial) else "searched" for trial in _complete(study))


def add_trial(of: Trial, values: Sequence[float], constraints: dict[str, float], user_attrs: dict[str, Any]) -> int:
    """Record a finished trial with the parameters of another; its number."""
    study = of.study
    added = create_trial(
        values=values,
        params=of.params,
        distributions=of.distributions,
        user_attrs=user_attrs,
        constraints=constraints,
    )
    # The public add_trial does not tell the number, and several processes may add trials at once.
    return study._storage.get_trial(study._storage.create_new_trial(study._study_id, template_trial=added)).number
