"""A copy of a study in memory, which follows it: what looks at a run changes nothing in it."""

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial


class StudyCopy:
    """A study with the trials of ``source``, and with names for its two objectives."""

    def __init__(self, source: optuna.Study, metric_names: list[str]) -> None:
        self._source, self._memory = source, InMemoryStorage()
        self.study = optuna.create_study(
            storage=self._memory, study_name=source.study_name, directions=source.directions
        )
        self.study.set_metric_names(metric_names)
        self._identifier = self._memory.get_study_id_from_name(source.study_name)

    def follow(self) -> None:
        """Copy what the source has gained: new trials, and what running ones have reached."""
        copied = self.study.get_trials(deepcopy=False)
        for trial in self._source.get_trials(deepcopy=False):
            if trial.number >= len(copied):
                self._memory.create_new_trial(self._identifier, template_trial=trial)
            elif not copied[trial.number].state.is_finished():
                self._update(trial, copied[trial.number])

    def _update(self, trial: FrozenTrial, copy: FrozenTrial) -> None:
        trial_id = self._memory.get_trial_id_from_study_id_trial_number(self._identifier, trial.number)
        for name, distribution in trial.distributions.items():
            if name not in copy.params:
                internal = distribution.to_internal_repr(trial.params[name])
                self._memory.set_trial_param(trial_id, name, internal, distribution)
        for key, value in trial.user_attrs.items():
            self._memory.set_trial_user_attr(trial_id, key, value)
        for step, value in trial.intermediate_values.items():
            self._memory.set_trial_intermediate_value(trial_id, step, value)
        if trial.state != copy.state:
            self._memory.set_trial_state_values(trial_id, trial.state, trial.values)
