"""A study in a database: what its workers have to know, and how they get it."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import TrialState
from pydantic import Field, ValidationError

from bitsearch.errors import InputError, suggestion
from bitsearch.plan import UniformBits
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.interruption import Stop
from bitsearch.runs.run_settings import RunSettings
from bitsearch.study.database.artifacts import Artifacts
from bitsearch.study.database.optuna_internals import storage_of
from bitsearch.study.database.study_cache import cached
from bitsearch.study.front import FrontAxis
from bitsearch.study.study import INTERMEDIATE_OF, STUDY_NAME, first_number, is_intermediate
from bitsearch.study.trial_roles import StudyPlan
from bitsearch.validation import Frozen, Name, explain, from_toml, to_toml

_ATTRIBUTE = "bitsearch"
POLL_SECONDS = 2.0


class WorkerConfig(Frozen):
    """All that a worker needs, in an attribute of the study."""

    schema_version: int = Field(default=1, ge=1, le=1)
    settings: RunSettings
    searched: int = Field(ge=1)
    uniform: tuple[UniformBits, ...]
    front: FrontAxis | None = None
    artifacts: Name

    @property
    def study_plan(self) -> StudyPlan:
        """The study's trials."""
        return StudyPlan(self.searched, self.uniform, self.settings.space.search.methods, self.front)


class SharedStudy:
    """A study that others work on too.

    Args:
        study: in the database.
        artifacts: where plans and weights are kept; by default where the study says.
        fallback: for a study that is new.
    """

    def __init__(self, study: optuna.Study, artifacts: str | None, fallback: str) -> None:
        self.study = study
        config = read_worker_config(study)
        self.artifacts = Artifacts(artifacts or (fallback if config is None else config.artifacts))

    def check_same(self, settings: RunSettings) -> None:
        """InputError if the study is of another search."""
        config = read_worker_config(self.study)
        if config is not None and config.settings.defining() != settings.defining():
            raise InputError(
                f"the storage has a study {self.study.study_name!r} of another search; give another name with --study"
            )

    def import_pretrained(self, folder: RunFolder) -> None:
        """Give a new run folder the full-precision network of a study that has one already."""
        config = read_worker_config(self.study)
        if config is not None and folder.settings.full_precision.validation is None:
            self.artifacts.fetch(self.study, storage_of(self.study), folder.full_precision_weights)
            measured = {name: getattr(config.settings, name) for name in ("full_precision", "signed_input")}
            folder.write_settings(folder.settings.model_copy(update=measured))

    def publish(self, settings: RunSettings, plan: StudyPlan, weights: Path) -> None:
        """Let workers begin: hand out the settings and the full-precision weights."""
        if read_worker_config(self.study) is None:
            self.artifacts.upload(self.study, weights)
        config = WorkerConfig(
            settings=settings,
            searched=plan.searched,
            uniform=tuple(plan.uniform),
            front=plan.front,
            artifacts=self.artifacts.location,
        )
        self.study.set_user_attr(_ATTRIBUTE, to_toml(config))

    def download_results(self, folder: RunFolder) -> None:
        """Get the plans and weights of all finished trials into the run folder, and no others; and the study itself."""
        trials = self.study.get_trials(deepcopy=False)
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        # What a trial left on its way was handed in with its own files.
        owners = {first_number(trial): trial for trial in complete if not is_intermediate(trial)}
        for trial in trials:
            owner = owners.get(trial.user_attrs[INTERMEDIATE_OF]) if is_intermediate(trial) else trial
            if trial.state == TrialState.COMPLETE and owner is not None:
                files = folder.plan_file(trial.number), folder.weights_file(trial.number)
                self.artifacts.fetch(owner, storage_of(self.study), *files)
            elif trial.state.is_finished():
                folder.forget_trial(trial.number)
        folder.study_file.unlink(missing_ok=True)
        optuna.copy_study(
            from_study_name=self.study.study_name,
            from_storage=storage_of(self.study),
            to_storage=folder.storage_url,
            to_study_name=STUDY_NAME,
        )


def read_worker_config(study: optuna.Study) -> WorkerConfig | None:
    """What the study's run handed out; None before it did."""
    content = study.user_attrs.get(_ATTRIBUTE)
    if content is None:
        return None
    source = f"study {study.study_name!r} was made by another version of bitsearch"
    if isinstance(content, str):
        return from_toml(WorkerConfig, content, source)
    try:
        return WorkerConfig.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error)}") from error


def wait_for_study(storage: optuna.storages.BaseStorage, name: str, patience: float, stop: Stop) -> optuna.Study:
    """The study, once its run has made it and trained the full-precision network.

    Raises:
        InputError: it is not there after ``patience`` seconds; names those that are.
    """
    deadline = time.monotonic() + patience
    while True:
        stop.check()
        names = [study.study_name for study in storage.get_all_studies()]
        if name in names:
            study = optuna.load_study(study_name=name, storage=cached(storage))
            if read_worker_config(study) is not None:
                return study
        if time.monotonic() >= deadline:
            raise InputError(_nothing(name, names, patience))
        time.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))


def _nothing(name: str, names: Sequence[str], patience: float) -> str:
    waited = f" after {patience:.0f} s of waiting" if patience else ""
    if name in names:
        return f"study {name!r} is not ready{waited}: `bitsearch run` still trains its full-precision network"
    studies = ", ".join(names[:10]) or "none"
    command = f"bitsearch run --study {shlex.quote(name)}"
    return (
        f"no study {name!r} in the storage{waited}; it has: {studies}. Start it with {command}{suggestion(name, names)}"
    )
