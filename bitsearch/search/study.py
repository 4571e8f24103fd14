"""The Optuna study of a run, and which trial is of which method."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from bitsearch.plan import UniformBits

# Heartbeats and the grouped TPE are marked experimental by Optuna; a user of bitsearch can do nothing about that.
warnings.filterwarnings("ignore", category=ExperimentalWarning, module=r"(optuna|bitsearch)\.")

STUDY_NAME = "bitsearch"
"""Of the one study of a run, in its own folder."""
FAILURE = "failure"
"""A failed trial's attribute that says why. One without it was lost, and is taken again."""
ROLE, SEARCHED, BASELINE, SURPLUS, PART = "role", "searched", "baseline", "surplus", "part"
"""A trial's attribute that says what it is for: one that searches, a uniform plan beside it, one that two workers
began at the end of a study, when one was left; and a plan that another trial left on its way."""
PART_OF = "part_of"
"""A part's attribute: the number under which the trial that left it was first begun."""

FEW = 100
"""The first trials of a study, among which those with the space's own knobs are."""


@dataclass(frozen=True)
class Wanted:
    """The trials of a study: those that search and uniform ones take turns, so that a run cut short has both."""

    searched: int
    uniform: Sequence[UniformBits] = ()
    methods: Sequence[str] = ()
    """That take turns, where a study compares them; the space's own otherwise."""

    @property
    def total(self) -> int:
        """Of both roles."""
        return self.searched + len(self.uniform)

    def roles(self, trials: Sequence[FrozenTrial]) -> dict[int, str]:
        """The role of every trial by its number: what it has been given, or what it is its turn to be.

        Every worker comes to the same, since a trial's role follows from those with lower numbers alone.
        """
        found: dict[int, str] = {}
        given: Counter[str] = Counter()
        origins: set[int] = set()
        for trial in trials:
            if is_part(trial):
                found[trial.number] = PART
                continue
            origin = origin_of(trial)
            if origin != trial.number:
                # The first that takes a lost trial again does it for all.
                taken = origin in origins and trial.state != TrialState.COMPLETE
                found[trial.number] = SURPLUS if taken else found.get(origin, SURPLUS)
                if trial.state in (TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE):
                    origins.add(origin)
                continue
            role = trial.user_attrs.get(ROLE) or self._next(given)
            given[role] += 1
            found[trial.number] = role
        return found

    def _next(self, given: Counter[str]) -> str:
        searched, uniform = given[SEARCHED], given[BASELINE]
        if searched >= self.searched and uniform >= len(self.uniform):
            return SURPLUS
        takes_turn = uniform < len(self.uniform) and (uniform < searched or searched >= self.searched)
        return BASELINE if takes_turn else SEARCHED

    def begun(self, trials: Sequence[FrozenTrial]) -> int:
        """How many of them have been begun, in whatever state they are."""
        counts = Counter(role for number, role in self.roles(trials).items() if origin_of(trials[number]) == number)
        return min(counts[SEARCHED], self.searched) + min(counts[BASELINE], len(self.uniform))

    def turn(self, trials: Sequence[FrozenTrial], number: int) -> "Turn":
        """What the trial ``number`` is to be; ``trials`` are all of the study, in order."""
        roles, origin = self.roles(trials), origin_of(trials[number])
        role = roles[number]
        before = sum(roles[trial.number] == role and origin_of(trial) == trial.number for trial in trials[:origin])
        if role == SEARCHED and self.methods:
            draw, index = divmod(before, len(self.methods))
            return Turn(role, origin, draw, method=self.methods[index])
        return Turn(role, origin, before, bits=self.uniform[before] if role == BASELINE else None)

    def has_defaults(self, trials: Sequence[FrozenTrial], number: int) -> bool:
        """True for the first trial that searches, or the first of a method: it gets the space's own knobs."""
        few, origin = trials[:FEW], origin_of(trials[number])
        # Every trial of a long study is asked about.
        if origin >= FEW and list(self.roles(few).values()).count(SEARCHED) > len(self.methods):
            return False
        turn = self.turn(trials, number)
        return turn.role == SEARCHED and turn.draw == 0


@dataclass(frozen=True)
class Turn:
    """What one trial is to be."""

    role: str
    """:data:`SEARCHED`, :data:`BASELINE` or :data:`SURPLUS`."""
    origin: int
    """The number under which it was first begun."""
    draw: int = 0
    """How many like it were begun before: of its method, where methods take turns, or else of its role."""
    method: str | None = None
    """Where methods take turns."""
    bits: UniformBits | None = None
    """Of a baseline."""


def open_study(storage: BaseStorage, name: str) -> optuna.Study:
    """Create the study or load it: validation accuracy up, cost down."""
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
    # Optuna's trials are only read here; copying them all takes longer than reading them.
    found = [] if study is None else study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [trial for trial in found if not is_part(trial)]


def add_part(
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
    own = {PART_OF: origin, PART: index}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if own.items() <= trial.user_attrs.items():
            return trial.number
    added = create_trial(
        values=values,
        params=of.params,
        distributions=of.distributions,
        user_attrs=own | attributes,
        constraints=constraints,
    )
    # The public add_trial does not tell the number, and several processes may add trials at once.
    return study._storage.get_trial(study._storage.create_new_trial(study._study_id, template_trial=added)).number


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
        if trial.state != TrialState.FAIL or (is_settled(trial) and trial.user_attrs.get(ROLE) != SURPLUS)
    }
    lost = {origin_of(trial): trial for trial in trials if trial.state == TrialState.FAIL and not is_settled(trial)}
    callback = study._storage.get_heartbeat_stale_trial_callback()  # type: ignore[attr-defined]
    for origin, trial in lost.items():
        if origin not in live:
            callback(study, trial)


def origin_of(trial: FrozenTrial) -> int:
    """The number under which a trial was first begun; one that was lost is taken again under another."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def is_settled(trial: FrozenTrial) -> bool:
    """True for a trial that has come to its end: with a result, or a failure that has a reason."""
    failed = FAILURE in trial.user_attrs or trial.user_attrs.get(ROLE) == SURPLUS
    return trial.state == TrialState.COMPLETE or (trial.state == TrialState.FAIL and failed)


def is_part(trial: FrozenTrial) -> bool:
    """True for a plan that another trial left on its way."""
    return PART_OF in trial.user_attrs
