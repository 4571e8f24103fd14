"""What a trial tries: the space's sampler, made anew for every trial with a seed of its own."""

from collections.abc import Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from bitsearch.search.study import Wanted, origin_of
from bitsearch.space import SearchSpace

SEED_STRIDE = 100_003
"""Between the sampler seeds of two run seeds; more than any run has trials."""


class TrialSampler(BaseSampler):
    """Seeds the space's sampler by the run's seed and the trial's number.

    So a trial that was interrupted is sampled as if nothing had happened, and no two workers draw the same values. The
    first trial that searches gets the space's own knobs, and so does the first of every method.
    """

    def __init__(self, space: SearchSpace, seed: int, wanted: Wanted) -> None:
        self.space, self.seed, self.wanted = space, seed, wanted
        self._made_for: int | None = None
        self._has_defaults = False
        self._sampler: BaseSampler = RandomSampler()
        self._relative: set[str] = set()
        self._skipped: set[str] = set()

    def _of(self, study: Study, trial: FrozenTrial) -> BaseSampler:
        if self._made_for != trial.number:
            self._made_for = trial.number
            self._has_defaults = self.wanted.has_defaults(study.get_trials(deepcopy=False), trial.number)
            self._sampler = make_sampler(self.space, self.seed, origin_of(trial))
            self._relative, self._skipped = set(), set()
        return self._sampler

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the space's sampler; nothing for a first trial."""
        found = self._of(study, trial).infer_relative_search_space(study, trial)
        return {} if self._has_defaults else found

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the space's sampler."""
        found = self._of(study, trial).sample_relative(study, trial, search_space)
        self._relative = set(found)
        return found

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the space's sampler; for a first trial what the space itself says."""
        sampler = self._of(study, trial)
        own = default_parameters(self.space) if self._has_defaults else {}
        if param_name in own:
            return own[param_name]
        # What had been drawn before an interruption is drawn once more, so that the next draw is the next.
        for name, distribution in trial.distributions.items():
            if name not in self._relative | self._skipped:
                sampler.sample_independent(study, trial, name, distribution)
                self._skipped.add(name)
        self._skipped.add(param_name)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """As the space's sampler."""
        self._of(study, trial).before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """As the space's sampler."""
        self._of(study, trial).after_trial(study, trial, state, values)


def make_sampler(space: SearchSpace, seed: int, number: int) -> BaseSampler:
    """The space's sampler for the trial ``number``."""
    own_seed = (seed * SEED_STRIDE + number) % 2**32
    if space.search.sampler == "random":
        return RandomSampler(seed=own_seed)
    if space.search.sampler == "tpe":
        return TPESampler(seed=own_seed, multivariate=True, group=True, n_startup_trials=5)
    return NSGAIISampler(seed=own_seed, population_size=16)


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
