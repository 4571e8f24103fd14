"""The Optuna study of a run, and which trial is of which method."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bitsearch.plan import UniformBits
from bitsearch.search.sampler import origin_of

# Heartbeats and the grouped TPE are marked experimental by Optuna; a user of bitsearch can do nothing about that.
warnings.filterwarnings("ignore", category=ExperimentalWarning, module=r"(optuna|bitsearch)\.")

FAILURE = "failure"
"""A failed trial's attribute that says why. One without it was lost, and is taken again."""
SURPLUS = "surplus"
"""Method of a trial that two workers began at the end of a study, when one was left."""


@dataclass(frozen=True)
class Wanted:
    """The trials of a study: adaptive and uniform ones take turns, so that a run cut short has both."""

    adaptive: int
    uniform: Sequence[UniformBits]

    @property
    def total(self) -> int:
        """Of both methods."""
        return self.adaptive + len(self.uniform)

    def methods(self, trials: Sequence[FrozenTrial]) -> dict[int, str]:
        """The method of every trial by its number: what it has been given, or what it is its turn to be.

        Every worker comes to the same, since a trial's method follows from those with lower numbers alone.
        """
        found: dict[int, str] = {}
        given: Counter[str] = Counter()
        origins: set[int] = set()
        for trial in trials:
            origin = origin_of(trial)
            if origin != trial.number:
                # The first that takes a lost trial again does it for all.
                taken = origin in origins and trial.state != TrialState.COMPLETE
                found[trial.number] = SURPLUS if taken else found.get(origin, SURPLUS)
                if trial.state in (TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE):
                    origins.add(origin)
                continue
            method = trial.user_attrs.get("method") or self._next(given)
            given[method] += 1
            found[trial.number] = method
        return found

    def _next(self, given: Counter[str]) -> str:
        adaptive, uniform = given["adaptive"], given["uniform"]
        if adaptive >= self.adaptive and uniform >= len(self.uniform):
            return SURPLUS
        takes_turn = uniform < len(self.uniform) and (uniform < adaptive or adaptive >= self.adaptive)
        return "uniform" if takes_turn else "adaptive"

    def begun(self, trials: Sequence[FrozenTrial]) -> int:
        """How many of them have been begun, in whatever state they are."""
        counts = Counter(
            method for number, method in self.methods(trials).items() if origin_of(trials[number]) == number
        )
        return min(counts["adaptive"], self.adaptive) + min(counts["uniform"], len(self.uniform))

    def turn(self, trials: Sequence[FrozenTrial], number: int) -> "Turn":
        """What the trial ``number`` is to be; ``trials`` are all of the study, in order."""
        methods, origin = self.methods(trials), origin_of(trials[number])
        method = methods[number]
        uniform = [trial.number for trial in trials[:origin] if origin_of(trial) == trial.number]
        index = sum(methods[other] == "uniform" for other in uniform)
        return Turn(method, origin, self.uniform[index] if method == "uniform" else None)


@dataclass(frozen=True)
class Turn:
    """What one trial is to be."""

    method: str
    """``adaptive``, ``uniform`` or :data:`SURPLUS`."""
    origin: int
    """The number under which it was first begun."""
    bits: UniformBits | None = None
    """Of a uniform one."""


def open_study(storage: BaseStorage, name: str) -> optuna.Study:
    """Create the study or load it: validation accuracy up, cost down."""
    return optuna.create_study(
        storage=storage,
        study_name=name,
        directions=[StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE],
        load_if_exists=True,
    )


def release_interrupted(study: optuna.Study) -> None:
    """Let what a killed process left running go on, under its number; only for the sole owner of the storage."""
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        study._storage.set_trial_state_values(trial._trial_id, state=TrialState.WAITING)


def requeue_lost(study: optuna.Study) -> None:
    """Queue what was given up as lost, by a process that died before it could queue it again."""
    trials = study.get_trials(deepcopy=False)
    live = {
        origin_of(trial)
        for trial in trials
        if trial.state != TrialState.FAIL or (is_settled(trial) and trial.user_attrs.get("method") != SURPLUS)
    }
    lost = {origin_of(trial): trial for trial in trials if trial.state == TrialState.FAIL and not is_settled(trial)}
    callback = study._storage.get_heartbeat_stale_trial_callback()  # type: ignore[attr-defined]
    for origin, trial in lost.items():
        if origin not in live:
            callback(study, trial)


def is_settled(trial: FrozenTrial) -> bool:
    """True for a trial that has come to its end: with a result, or a failure that has a reason."""
    failed = FAILURE in trial.user_attrs or trial.user_attrs.get("method") == SURPLUS
    return trial.state == TrialState.COMPLETE or (trial.state == TrialState.FAIL and failed)
