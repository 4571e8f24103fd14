"""Trials that would be trained as one that has finished: the training is deterministic, so its result is known.

Samplers draw from few choices again and again, and a space may vary nothing at all.
"""

import hashlib
import json

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from bitsearch.allocation.methods import COUNTS_ATTEMPTS
from bitsearch.files import read_bytes, write_whole
from bitsearch.plan import BitPlan
from bitsearch.runs.folder import RunFolder
from bitsearch.study.database.artifacts import Artifacts
from bitsearch.study.database.optuna_internals import storage_of
from bitsearch.study.jobs import Allocate
from bitsearch.study.study import is_intermediate

TRAINING = "training"
"""A trial's attribute: the checksum of all that its training depends on and that varies within a study."""


def training_checksum(job: Allocate) -> str:
    """SHA-256 of what tells one training of a study from another: two with the same give the same network."""
    content = {
        "settings": job.settings.model_dump(mode="json"),
        "attempt": job.attempt if job.settings.method in COUNTS_ATTEMPTS else 0,
        "limits": [(budget.metric, budget.limit) for budget in job.budgets],
    }
    if job.start is not None:
        content |= {"start": job.start.trial, "epochs": job.epochs}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def finished_training(study: Study, checksum: str) -> FrozenTrial | None:
    """The first finished trial with this training; None if there is none yet."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if trial.user_attrs.get(TRAINING) == checksum and not is_intermediate(trial):
            return trial
    return None


def copy_result(
    folder: RunFolder, earlier: FrozenTrial, number: int, study: Study, artifacts: Artifacts | None
) -> BitPlan | None:
    """Write an earlier trial's plan and weights as those of the trial ``number``; None if they are not there.

    The test split stays unread for the copy, whatever was measured of the earlier one since.
    """
    plan_file, weights_file = folder.plan_file(earlier.number), folder.weights_file(earlier.number)
    if artifacts is not None:
        artifacts.fetch(earlier, storage_of(study), plan_file, weights_file)
    if not plan_file.is_file() or not weights_file.is_file():
        return None
    plan = folder.plan(earlier.number)
    plan = plan.with_measured(plan.measured.model_copy(update={"test": None}))
    plan = plan.model_copy(update={"provenance": plan.provenance.model_copy(update={"trial": number})})
    for event in folder.log():
        if event.get("event") == "measured" and event.get("trial") == earlier.number:
            folder.append_log({name: value for name, value in event.items() if name != "time"} | {"trial": number})
    write_whole(folder.weights_file(number), read_bytes(weights_file, "weights"))
    folder.write_plan(plan)
    return plan
