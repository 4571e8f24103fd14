"""Taking trials from a study until none is left, in this process alone or in many: what goes wrong is recorded."""

import re
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from bitsearch.errors import InputError, StorageError, located, redact
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.interruption import Interrupted, Stop
from bitsearch.runs.progress import Progress
from bitsearch.study.database.optuna_internals import set_trial_state, stored_trial
from bitsearch.study.study import (
    BASELINE,
    DUPLICATE,
    FAILURE,
    ROLE,
    SEARCHED,
    first_number,
    is_finished,
    is_intermediate,
    requeue_lost,
)
from bitsearch.study.trial_roles import Assignment, StudyPlan, TrialSchedule

SAME_CAUSE = 3
"""Failures in a row with one cause that stop a study."""
LONGEST_REASON = 300
LONGEST_TRACEBACK = 4000
POLL_SECONDS = 2.0
"""Between two looks at a study whose last trials others are running."""

Objective = Callable[[Trial, Assignment], tuple[float, float]]
"""Runs a trial: what it is told to be."""


class _TrialEndedError(Exception):
    """The trial has no result, and the study goes on."""


@dataclass
class TrialRunner:
    """Takes trials from a study, one after the other.

    Args:
        study: with its sampler.
        wanted: what there is to do in all.
        objective: runs one.
        folder: gets the log and the checkpoints.
        progress: told what fails.
        stop: looked at between trials.
        can_continue: whether further trials can be run after one has failed so.
    """

    study: optuna.Study
    study_plan: StudyPlan
    objective: Objective
    folder: RunFolder
    progress: Progress
    stop: Stop
    can_continue: Callable[[BaseException], bool] = lambda error: True

    def __post_init__(self) -> None:
        # Whoever gives the command again has done something about them.
        self.ended = 0
        self._schedule = TrialSchedule(self.study_plan)
        self._old = {trial.number for trial in self.study.get_trials(deepcopy=False) if is_finished(trial)}

    def run_all(self, deadline: float | None = None) -> None:
        """Until every trial has ended, here or elsewhere; after ``deadline`` (monotonic) as soon as one has a result.

        Raises:
            InputError: the last trials failed, all with the same cause.
            StorageError: the disk or the database.
            Interrupted: asked to stop; what was running goes on later.
        """
        while True:
            self.stop.check()
            trials = self.study.get_trials(deepcopy=False)
            check_causes(trial for trial in reversed(trials) if trial.number not in self._old)
            complete = any(trial.state == TrialState.COMPLETE for trial in trials)
            if complete and deadline is not None and time.monotonic() >= deadline:
                return
            is_open = self._schedule.is_open(trials)
            # Long studies are asked about after every trial: what has ended before is not gone through again.
            states = {trial.state for trial in trials[self._schedule.ended :]}
            if TrialState.WAITING in states or is_open:
                self._take()
                continue
            if TrialState.RUNNING not in states:
                requeue_lost(self.study)
                if not any(trial.state == TrialState.WAITING for trial in self.study.get_trials(deepcopy=False)):
                    return
                continue
            time.sleep(POLL_SECONDS)
            optuna.storages.fail_stale_trials(self.study)

    def _take(self) -> None:
        claimed: list[Trial] = []

        def run(trial: Trial) -> tuple[float, float]:
            claimed.append(trial)
            return self._attempt(trial)

        try:
            self.study.optimize(run, n_trials=1, catch=(_TrialEndedError,))
        except Interrupted:
            for trial in claimed:
                # Back to the queue, so that nobody has to wait until it counts as lost.
                set_trial_state(self.study, trial, TrialState.WAITING)
            raise
        except _StoppedError as stopped:
            raise stopped.error from stopped
        except (ValueError, AssertionError, UpdateFinishedTrialError) as error:
            # Optuna's, at the end of a trial that others gave up as lost while this process could not be heard.
            if isinstance(error, InputError) or not claimed or not self._given_away(claimed[0]):
                raise
            self.progress.note(f"trial {claimed[0].number} was taken for lost, and is run again")
            self.folder.forget_trial(claimed[0].number)
        self.ended += 1
        for trial in claimed:
            ended = stored_trial(self.study, trial)
            self.folder.forget_checkpoint(first_number(ended))

    def _given_away(self, trial: Trial) -> bool:
        return stored_trial(self.study, trial).state.is_finished()

    def _attempt(self, trial: Trial) -> tuple[float, float]:
        try:
            return self._run(trial)
        except KeyboardInterrupt as error:
            raise Interrupted from error
        except StorageError as error:
            # Neither the trial's fault nor its end.
            raise _StoppedError(error) from error

    def _run(self, trial: Trial) -> tuple[float, float]:
        assignment = self._schedule.assignment(self.study.get_trials(deepcopy=False), trial.number)
        trial.set_user_attr(ROLE, assignment.role)
        if assignment.role == DUPLICATE:
            raise _TrialEndedError
        try:
            return self.objective(trial, assignment)
        except (StorageError, UpdateFinishedTrialError):
            raise
        except (Exception, SystemExit) as error:
            # A network or data set of the user's own may end the program.
            if not self.can_continue(error):
                raise
            cause = cause_of(error)
            frames = traceback.format_exception(error, limit=-5)
            event = {"event": "failed", "trial": trial.number, "reason": cause}
            self.folder.append_log({**event, "traceback": "".join(frames)[-LONGEST_TRACEBACK:]})
            trial.set_user_attr(FAILURE, cause)
            self.folder.forget_trial(trial.number)
            self.progress.note(f"trial {trial.number} failed: {cause}")
            raise _TrialEndedError from error


class _StoppedError(BaseException):
    """Carries a StorageError past Optuna, which would take it for the end of the trial."""

    def __init__(self, error: StorageError) -> None:
        self.error = error


def cause_of(error: BaseException) -> str:
    """What went wrong, in one line."""
    text = redact(" ".join(str(error).split()) if isinstance(error, InputError) else located(error))
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"


def check_causes(trials: Iterable[FrozenTrial]) -> None:
    """InputError if the last trials that ended, or the last of one role, all failed with one cause.

    ``trials`` come last first. What searches and what is uniform take turns, and may fail alone.
    """
    ended = (
        trial
        for trial in trials
        if is_finished(trial) and not is_intermediate(trial) and trial.user_attrs.get(ROLE) != DUPLICATE
    )
    latest = list(islice(ended, 2 * SAME_CAUSE))
    for role in (None, SEARCHED, BASELINE):
        of_role = [trial for trial in latest if role in (None, trial.user_attrs.get(ROLE))][:SAME_CAUSE]
        causes = [str(trial.user_attrs[FAILURE]) for trial in of_role if FAILURE in trial.user_attrs]
        if len(causes) == SAME_CAUSE and len({_without_numbers(cause) for cause in causes}) == 1:
            raise InputError(f"{SAME_CAUSE} {_IN_A_ROW[role]} failed, and the study stops: {causes[0]}")


_IN_A_ROW = {None: "trials in a row", SEARCHED: "searching trials in a row", BASELINE: "uniform trials in a row"}


def _without_numbers(cause: str) -> str:
    # "loss is nan in epoch 3" and "in epoch 4" are one cause.
    return re.sub(r"\d+", "#", cause)
