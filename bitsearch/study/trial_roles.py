"""Assigns a role and a method to every trial.

The rule depends only on earlier trials, so that all workers agree without talking.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from optuna.trial import FrozenTrial, TrialState

from bitsearch.plan import UniformBits
from bitsearch.score import Accuracy, Measured
from bitsearch.space import SearchSpace
from bitsearch.study.front import FrontAxis
from bitsearch.study.narrowing import is_settled, next_uniform
from bitsearch.study.study import (
    BASELINE,
    DUPLICATE,
    INTERMEDIATE,
    ROLE,
    SEARCHED,
    UNIFORM,
    first_number,
    is_intermediate,
)


@dataclass(frozen=True)
class StudyPlan:
    """The trials of a study: those that search and uniform ones take turns, so that a run cut short has both."""

    searched: int
    uniform: Sequence[UniformBits] = ()
    methods: Sequence[str] = ()
    """That take turns, where a study compares them; the space's own otherwise."""
    front: FrontAxis | None = None
    """The front along which a share of the trials is spread; all of them aim at the budget where there is none."""

    @property
    def baselines(self) -> int:
        """Uniform plans, at the budget and along the front."""
        return len(self.uniform) + (0 if self.front is None else self.front.uniform_trials)

    @property
    def total(self) -> int:
        """Of both roles."""
        return self.searched + self.baselines

    def up_to(self, full_precision: Measured, error: float) -> "StudyPlan":
        """With the front's end at what full precision has, which is known but for a standard error.

        What guessing would have is known of accuracy; other scores are taken to begin at zero, errors at twice theirs.
        """
        if self.front is None or full_precision.validation is None:
            return self
        most = full_precision.score.rank(full_precision.validation)
        guess = self.front.least if isinstance(full_precision, Accuracy) else most - abs(most)
        ends = {"least": min(guess, most), "most": most, "error": error}
        return replace(self, front=self.front.model_copy(update=ends))

    def aim(self, role: str, attempt: int) -> tuple[bool, int]:
        """(True if the ``attempt``-th trial of a role goes along the front, how many like it come before).

        The others go at the budget. Both kinds are spread evenly over the trials of a role, the budget's first.
        """
        if self.front is None:
            return False, attempt
        is_baseline = role == BASELINE
        count = self.front.uniform_trials if is_baseline else self.front.trials
        total = max(1, self.baselines if is_baseline else self.searched)
        before = attempt * count // total
        along = (attempt + 1) * count // total > before
        return along, before if along else attempt - before


def searched(space: SearchSpace, trials: int) -> int:
    """Trials that search, of all methods together."""
    return trials * max(1, len(space.search.methods))


def baselines(space: SearchSpace) -> int:
    """At most this many uniform plans are trained beside what is searched."""
    return 0 if space.search.methods else space.search.uniform_trials


@dataclass(frozen=True)
class Assignment:
    """What one trial is to be."""

    role: str
    """:data:`SEARCHED`, :data:`BASELINE` or :data:`DUPLICATE`."""
    origin: int
    """The number under which it was first begun."""
    attempt: int = 0
    """How many like it were begun before: of its method, where methods take turns, or else of its role."""
    method: str | None = None
    """Where methods take turns."""
    bits: UniformBits | None = None
    """Of a baseline."""
    along_front: bool = False
    """True for one that goes where the front is least certain, and not at the budget."""
    index: int = 0
    """How many of its role that aim as it does were begun before."""


class TrialSchedule:
    """Whose turn it is, for one study that grows.

    A trial's role depends only on trials with lower numbers, and is final once all of these have finished. So only
    those after the last of these are gone through again, however many there are.
    """

    def __init__(self, study_plan: StudyPlan) -> None:
        self.study_plan = study_plan
        self.ended = 0
        """So many first trials of the study have all ended, by what was last asked about."""
        self._roles: list[tuple[str, int]] = []
        """By number: the role, and how many of it were begun before."""
        self._counts: Counter[str] = Counter()
        self._retaken: set[int] = set()

    def roles(self, trials: Sequence[FrozenTrial]) -> list[str]:
        """The role of every trial by its number: what it has been given, or what it is its turn to be.

        Args:
            trials: all of the study, in order.
        """
        self._read(trials)
        return [role for role, _ in self._roles]

    def begun(self, trials: Sequence[FrozenTrial]) -> int:
        """How many of those that are wanted have been begun, in whatever state they are."""
        counts = self._read(trials)
        return min(counts[SEARCHED], self.study_plan.searched) + min(counts[BASELINE], self.study_plan.baselines)

    def is_open(self, trials: Sequence[FrozenTrial]) -> bool:
        """True while further trials are to be begun; a goal may be settled before as many have been as were wanted."""
        front = self.study_plan.front
        settled = front is not None and front.narrows and is_settled(front, trials)
        return self.begun(trials) < self.study_plan.total and not settled

    def assignment(self, trials: Sequence[FrozenTrial], number: int) -> Assignment:
        """What the trial ``number`` is to be."""
        self._read(trials)
        (role, before), origin, study_plan = self._roles[number], first_number(trials[number]), self.study_plan
        if role == SEARCHED and study_plan.methods:
            attempt, index = divmod(before, len(study_plan.methods))
            return Assignment(role, origin, attempt, method=study_plan.methods[index], index=attempt)
        along, index = study_plan.aim(role, before)
        if role != BASELINE:
            return Assignment(role, origin, before, along_front=along, index=index)
        if study_plan.front is None or not along:
            return Assignment(role, origin, before, bits=study_plan.uniform[index], index=index)
        recorded = trials[number].user_attrs.get(UNIFORM)
        if recorded is not None:
            bits: UniformBits | None = UniformBits.parse(recorded)
        elif study_plan.front.narrows:
            bits = next_uniform(study_plan.front, trials)
        else:
            bits = study_plan.front.next_uniform(trials)
        assert bits is not None, "there are as many uniform plans as trials for them"
        return Assignment(role, origin, before, bits=bits, along_front=True, index=index)

    def _read(self, trials: Sequence[FrozenTrial]) -> Counter[str]:
        """How many trials of every role have been begun."""
        del self._roles[self.ended :]
        open_trials = trials[self.ended :]
        ended = list(takewhile(lambda trial: trial.state.is_finished(), open_trials))
        for trial in ended:
            self._append(trial, self._counts, self._retaken)
        self.ended += len(ended)
        counts, retaken = self._counts.copy(), self._retaken.copy()
        for trial in open_trials[len(ended) :]:
            self._append(trial, counts, retaken)
        return counts

    def _append(self, trial: FrozenTrial, counts: Counter[str], retaken: set[int]) -> None:
        origin = first_number(trial)
        if is_intermediate(trial):
            self._roles.append((INTERMEDIATE, 0))
        elif origin == trial.number:
            role = trial.user_attrs.get(ROLE) or self._next(counts)
            self._roles.append((role, counts[role]))
            counts[role] += 1
        else:
            # Only the first retry of a lost trial counts; later ones are duplicates.
            is_retaken = origin in retaken and trial.state != TrialState.COMPLETE
            self._roles.append((DUPLICATE, 0) if is_retaken else self._roles[origin])
            if trial.state in (TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE):
                retaken.add(origin)

    def _next(self, counts: Counter[str]) -> str:
        searched, uniform, study_plan = counts[SEARCHED], counts[BASELINE], self.study_plan
        if searched >= study_plan.searched and uniform >= study_plan.baselines:
            return DUPLICATE
        takes_turn = uniform < study_plan.baselines and (uniform < searched or searched >= study_plan.searched)
        return BASELINE if takes_turn else SEARCHED
