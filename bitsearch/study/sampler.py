"""What a trial tries: the space's sampler, made anew for every trial with a seed of its own."""

from collections.abc import Container, Sequence
from operator import attrgetter
from typing import Any, cast

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from bitsearch.pareto import ParetoFront
from bitsearch.renamed import current_name, old_name
from bitsearch.space import SearchSpace
from bitsearch.study.front import TARGET, FrontAxis
from bitsearch.study.narrowing import narrow
from bitsearch.study.study import SEARCHED, first_number
from bitsearch.study.trial_roles import Assignment, StudyPlan, TrialSchedule
from bitsearch.study.warm_start import START

SEED_STRIDE = 100_003
"""Between the sampler seeds of two run seeds; more than any run has trials."""
MAX_HISTORY = 1000
"""A sampler learns from so many trials that ended last, and from the best before them: what it spends on a trial would
grow with the study otherwise."""


class TrialSampler(BaseSampler):
    """Seeds the space's sampler by the run's seed and the trial's number.

    So a trial that was interrupted is sampled as if nothing had happened, and no two workers draw the same values. The
    first trial that searches gets the space's own settings, and so does the first of every method, whether methods
    alternate or are sampled; so do all trials that go along the front, since what differs among them is to be what
    their plans may cost, until they have narrowed down on an accuracy goal.
    """

    def __init__(self, space: SearchSpace, seed: int, plan: StudyPlan) -> None:
        self.space, self.seed = space, seed
        self._front = plan.front
        self._schedule, self._history = TrialSchedule(plan), _History()
        self._target: float | None = None
        self._excerpt: Study | None = None
        self._made_for: int | None = None
        self._defaults: dict[str, Any] | None = None
        self._sampler: BaseSampler = RandomSampler()
        self._relative: set[str] = set()
        self._skipped: set[str] = set()

    def _of(self, study: Study, trial: FrozenTrial) -> tuple[BaseSampler, Study]:
        """The trial's sampler, and what it sees of the study."""
        if self._excerpt is None or self._made_for != trial.number:
            self._made_for = trial.number
            trials = study.get_trials(deepcopy=False)
            assignment, points = self._schedule.assignment(trials, trial.number), starting_points(self.space)
            stops = () if self._front is None else self._front.stops
            place = assignment.index % len(points) if assignment.along_front else assignment.index
            # Of a sweep, the first trials at every budget.
            place = assignment.index // len(stops) if stops else place
            self._defaults = points[place] if assignment.role == SEARCHED and place < len(points) else None
            window = self._history.window(trials, self._schedule.ended)
            if self._front is not None and self._front.narrows:
                aim = narrow(self._front, (other for other in window if other.number != trial.number), uniform=False)
                self._target, self._defaults = aim.cost, None if aim.varied else self._defaults
            else:
                self._target = self._cost_target(assignment, window)
            # Short trials have settings of the space's own, and go on from others: nothing of it says what is good.
            compared = [trial for trial in window if trial.user_attrs.get(START) is None]
            self._excerpt = cast(Study, _TrialWindow(study, compared))
            self._sampler = make_sampler(self.space, self.seed, first_number(trial))
            self._relative, self._skipped = set(), set()
        return self._sampler, self._excerpt

    def _cost_target(self, assignment: Assignment, window: Sequence[FrozenTrial]) -> float | None:
        if self._front is None:
            return None
        if self._front.limit is not None and not assignment.along_front:
            return self._front.limit
        if self._front.stops:
            return self._front.stops[assignment.index % len(self._front.stops)]
        return self._front.next_target(self._front.points(window), self._front.spans(window))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the space's sampler; nothing for a first trial."""
        sampler, excerpt = self._of(study, trial)
        distributions = sampler.infer_relative_search_space(excerpt, trial)
        # Where a trial aims is not the sampler's to say.
        distributions = {name: drawn for name, drawn in distributions.items() if name != TARGET}
        return distributions if self._defaults is None else {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the space's sampler."""
        sampler, excerpt = self._of(study, trial)
        values = sampler.sample_relative(excerpt, trial, search_space)
        values.pop(TARGET, None)
        self._relative = set(values)
        return values

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the space's sampler; for a first trial what the space itself says."""
        sampler, excerpt = self._of(study, trial)
        if param_name == TARGET:
            assert self._target is not None
            return self._target
        if self._defaults is not None and current_name(param_name) in self._defaults:
            return self._defaults[current_name(param_name)]
        # What had been drawn before an interruption is drawn once more, so that the next draw is the next.
        for name, distribution in trial.distributions.items():
            if name not in self._relative | self._skipped | {TARGET}:
                sampler.sample_independent(excerpt, trial, name, distribution)
                self._skipped.add(name)
        self._skipped.add(param_name)
        return sampler.sample_independent(excerpt, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """As the space's sampler."""
        sampler, excerpt = self._of(study, trial)
        sampler.before_trial(excerpt, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """As the space's sampler."""
        sampler, excerpt = self._of(study, trial)
        sampler.after_trial(excerpt, trial, state, values)


class _TrialWindow:
    """A study of which a sampler sees these trials only."""

    def __init__(self, study: Study, trials: Sequence[FrozenTrial]) -> None:
        self._study, self._trials = study, trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        """In the place of Optuna's own."""
        return [trial for trial in self._trials if states is None or trial.state in states]


class _History:
    """What a sampler learns from, in a study that grows: the last trials, and the Pareto front of those before them."""

    def __init__(self) -> None:
        self._passed = 0
        self._front: ParetoFront[FrozenTrial] = ParetoFront()

    def window(self, trials: Sequence[FrozenTrial], ended: int) -> list[FrozenTrial]:
        """Those of all trials, in order, of which the first ``ended`` have all come to their end."""
        passed = max(self._passed, ended - MAX_HISTORY)
        for trial in trials[self._passed : passed]:
            feasible = all(log_violation <= 0 for log_violation in trial.constraints.values())
            if trial.state == TrialState.COMPLETE and feasible:
                accuracy, cost = trial.values
                self._front.add(cost, accuracy, trial)
        self._passed = passed
        return [
            *sorted((trial for _, _, trial in self._front.points), key=lambda trial: trial.number),
            *trials[passed:],
        ]


def make_sampler(space: SearchSpace, seed: int, number: int) -> BaseSampler:
    """The space's sampler for the trial ``number``."""
    own_seed = (seed * SEED_STRIDE + number) % 2**32
    if space.search.sampler == "random":
        return RandomSampler(seed=own_seed)
    if space.search.sampler == "tpe":
        return TPESampler(seed=own_seed, multivariate=True, group=True, n_startup_trials=5)
    return NSGAIISampler(seed=own_seed, population_size=16)


def suggest_target(trial: Trial, front: FrontAxis) -> float:
    """What this trial's plan may cost on the front's axis."""
    drawn = front.distribution
    return trial.suggest_float(TARGET, drawn.low, drawn.high, log=drawn.log)


def suggest(trial: Trial, space: SearchSpace) -> dict[str, Any]:
    """This trial's values of the parameters that the space lets vary."""
    values: dict[str, Any] = {}
    for name, parameter in space.search.parameters.items():
        recorded = _recorded_name(name, trial)
        if parameter.range is not None:
            values[name] = trial.suggest_float(recorded, *parameter.range, log=parameter.log)
        else:
            values[name] = trial.suggest_categorical(recorded, parameter.choices or ())
    return values


def _recorded_name(name: str, trial: Trial) -> str:
    """A parameter's name in the trial's study: its old one, where an earlier version began the study."""
    old = old_name(name)
    if old is None:
        return name
    trials = trial.study.get_trials(deepcopy=False)
    return old if any(old in other.distributions for other in trials) else name


def starting_points(space: SearchSpace) -> list[dict[str, Any]]:
    """The space's own settings as parameters, once for each method that may vary, for the first trials.

    Those outside their range are left to the sampler.
    """
    parameters = space.search.parameters
    point = {name: attrgetter(name)(space.allocation) for name in parameters}
    point = {name: value for name, value in point.items() if value in parameters[name]}
    if "method" not in parameters:
        return [point]
    # The space's own comes first, where it is among them.
    methods = sorted(parameters["method"].choices or (), key=lambda method: method != space.allocation.method)
    return [point | {"method": method} for method in methods]
