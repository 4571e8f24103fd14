"""What a process remembers of a study's trials, so that asking for them costs hardly more in a long study.

Optuna's own cache reads every finished trial once, but sorts them all again whenever anybody asks for any.
"""

from collections.abc import Container

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from bitsearch.study.database.optuna_internals import CachedStorage

_FINISHED = tuple(state for state in TrialState if state.is_finished())


def cached(storage: BaseStorage) -> BaseStorage:
    """The storage with its finished trials remembered; one that remembers them itself stays as it is."""
    return StudyCache(storage) if isinstance(storage, RDBStorage) else storage


class StudyCache(CachedStorage):
    """Optuna's cache, with its trials kept in order and the unfinished ones found without going through the others."""

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """As Optuna's; the trial itself is read with the next ones, after those that others began before it."""
        return self._backend._create_new_trial(study_id, template_trial)._trial_id

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """As Optuna's, also for a trial that was begun elsewhere, as a proxy that is started anew has them."""
        is_cached = trial_id in self._trial_id_to_study_id_and_number
        setter = super().set_trial_param if is_cached else self._backend.set_trial_param
        setter(trial_id, param_name, param_value_internal, distribution)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """As Optuna's."""
        if deepcopy or (states is not None and any(state in states for state in _FINISHED)):
            return super().get_all_trials(study_id, deepcopy, states)
        self._read_trials_from_remote_storage(study_id)
        with self._lock:
            study = self._studies[study_id]
            if states is None:
                return list(study.trials.values())
            numbers = sorted(self._trial_id_to_study_id_and_number[each][1] for each in study.unfinished_trial_ids)
            return [study.trials[number] for number in numbers if study.trials[number].state in states]

    def _add_trials_to_cache(self, study_id: int, trials: list[FrozenTrial]) -> None:
        cached = self._studies[study_id].trials
        new, count = [trial.number for trial in trials if trial.number not in cached], len(cached)
        super()._add_trials_to_cache(study_id, trials)
        if new != list(range(count, count + len(new))):
            self._studies[study_id].trials = dict(sorted(cached.items()))
