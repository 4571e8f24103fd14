"""The Optuna study of a run, and what its trials' attributes say."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from bitsearch.errors import StorageError
from bitsearch.runs.folder import RunFolder
from bitsearch.study.database.optuna_internals import add_trial, set_trial_state, storage_of
from bitsearch.study.database.storage import STORAGE_ERRORS, reason
from bitsearch.study.database.study_cache import cached

# Heartbeats and the grouped TPE are marked experimental by Optuna; a user of bitsearch can do nothing about that.
warnings.filterwarnings("ignore", category=ExperimentalWarning, module=r"(optuna|bitsearch)\.")

STUDY_NAME = "bitsearch"
"""Of the one study of a run, in its own folder."""
FAILURE = "failure"
"""A failed trial's attribute that says why. One without it was lost, and is taken again."""
ROLE, SEARCHED, BASELINE, DUPLICATE, INTERMEDIATE = "role", "searched", "baseline", "surplus", "part"
"""A trial's attribute that says what it is for: one that searches, a uniform plan beside it, a duplicate that two
workers started for the same last slot; and a plan that another trial left on its way."""
UNIFORM = "uniform"
"""A baseline's attribute: its bits, as ``4/3/1``."""
INTERMEDIATE_OF = "part_of"
"""A part's attribute: the number under which the trial that left it was first begun."""


def open_study(storage: BaseStorage, name: str) -> optuna.Study:
    """Create the study or load it: validation accuracy up, cost down."""
    return optuna.create_study(
        storage=cached(storage),
        study_name=name,
        directions=[StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE],
        load_if_exists=True,
    )


def load_study(folder: RunFolder) -> optuna.Study | None:
    """The study that a run wrote, to be read; None where there is none.

    Raises:
        StorageError: ``study.db`` is no database that this version reads.
    """
    if not folder.study_file.is_file():
        # SQLite would make one.
        return None
    with _reading(folder.study_file):
        try:
            return optuna.load_study(study_name=STUDY_NAME, storage=folder.storage_url)
        except KeyError:
            return None


def finished_trials(folder: RunFolder) -> list[FrozenTrial]:
    """The complete trials of a run's study without what these left on their way; none where it has no study.

    Raises:
        StorageError: as :func:`load_study`.
    """
    study = load_study(folder)
    if study is None:
        return []
    with _reading(folder.study_file):
        # Optuna's trials are only read here; copying them all takes longer than reading them.
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return [trial for trial in trials if not is_intermediate(trial)]


@contextmanager
def _reading(study_file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, *STORAGE_ERRORS) as error:
        raise StorageError(
            f"cannot read the study {study_file}: {reason(error)}; restore the file, or delete it: plans and "
            "report need none"
        ) from error


def add_intermediate(
    of: Trial,
    origin: int,
    index: int,
    values: Sequence[float],
    constraints: dict[str, float],
    attributes: dict[str, Any],
) -> int:
    """Record a plan that a trial left on its way as a finished trial with its parameters; the number.

    It is there once, however often the trial is begun again.
    """
    study = of.study
    marks = {INTERMEDIATE_OF: origin, INTERMEDIATE: index}
    for trial in study.get_trials(deepcopy=False)[origin + 1 :]:
        if trial.state == TrialState.COMPLETE and marks.items() <= trial.user_attrs.items():
            return trial.number
    added = create_trial(
        values=values,
        params=of.params,
        distributions=of.distributions,
        user_attrs=marks | attributes,
        constraints=constraints,
    )
    # By its number alone, since several processes may add trials at once.
    return add_trial(study, added).number


def reset_interrupted(study: optuna.Study) -> None:
    """Let what a killed process left running go on, under its number; only for the sole owner of the storage."""
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        set_trial_state(study, trial, TrialState.WAITING)


def requeue_lost(study: optuna.Study) -> None:
    """Queue what was given up as lost, by a process that died before it could queue it again."""
    trials = study.get_trials(deepcopy=False)
    live = {
        first_number(trial)
        for trial in trials
        if trial.state != TrialState.FAIL or (is_finished(trial) and trial.user_attrs.get(ROLE) != DUPLICATE)
    }
    lost = {first_number(trial): trial for trial in trials if trial.state == TrialState.FAIL and not is_finished(trial)}
    callback = storage_of(study).get_heartbeat_stale_trial_callback()  # type: ignore[attr-defined]  # of Optuna's RDBStorage
    for origin, trial in lost.items():
        if origin not in live:
            callback(study, trial)


def first_number(trial: FrozenTrial) -> int:
    """The number under which a trial was first begun; one that was lost is taken again under another."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def is_finished(trial: FrozenTrial) -> bool:
    """True for a trial that has come to its end: with a result, or a failure that has a reason."""
    failed = FAILURE in trial.user_attrs or trial.user_attrs.get(ROLE) == DUPLICATE
    return trial.state == TrialState.COMPLETE or (trial.state == TrialState.FAIL and failed)


def is_intermediate(trial: FrozenTrial) -> bool:
    """True for a plan that another trial left on its way."""
    return INTERMEDIATE_OF in trial.user_attrs
