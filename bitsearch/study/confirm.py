"""Training the finalists of a run with further seeds: ``run --confirm N``."""

from bitsearch.errors import InputError
from bitsearch.plan import BitPlan
from bitsearch.runs.confirmed import record_confirmed, row_name
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.one_standard_error import cheapest_within_one_standard_error
from bitsearch.runs.plan_names import full_name
from bitsearch.runs.progress import Progress
from bitsearch.runs.rows import read_rows
from bitsearch.runs.test_split import verdict_of
from bitsearch.study.jobs import TrainPlan
from bitsearch.study.processes import ProcessGroup
from bitsearch.train.checkpoint import Checkpoint
from bitsearch.train.evaluate import score_row
from bitsearch.validation import MAX_SEEDS, whole


def check_confirm(seeds: int, seed: int) -> None:
    """InputError if a run with this seed cannot be confirmed with so many more."""
    whole(seeds, "confirm", 1)
    if seed + seeds >= MAX_SEEDS:
        raise InputError(f"there are no {seeds} seeds above {seed}; give a smaller seed")


def finalists(folder: RunFolder) -> list[BitPlan]:
    """The chosen plan, the best of the other kind, the cheapest within one standard error; each once."""
    plans = [folder.chosen(), verdict_of(folder).rival, cheapest_within_one_standard_error(folder)]
    return [plan for place, plan in enumerate(plans) if plan is not None and plan not in plans[:place]]


def confirm_finalists(folder: RunFolder, processes: ProcessGroup, seeds: int, progress: Progress) -> None:
    """Train every finalist with so many seeds after the run's own, and keep which samples it gets right.

    All start from the run's full-precision network, train as long as a uniform trial, and differ in the order of the
    batches. What has been trained already is not trained again.
    """
    first = folder.settings.seed + 1
    for plan in finalists(folder):
        for seed in range(first, first + seeds):
            _confirm(folder, processes, plan, seed, progress)


def _confirm(folder: RunFolder, processes: ProcessGroup, plan: BitPlan, seed: int, progress: Progress) -> None:
    trial, task = plan.provenance.trial, processes.task
    assert trial is not None
    row, splits = row_name(trial, seed), task.splits
    # Validation comes last: where it is recorded, all is.
    parts = [
        (folder.confirmed_test_file, splits.test),
        (folder.confirmed_validation_file, splits.validation),
    ]
    if all(row in read_rows(path) for path, part in parts if part is not None):
        return
    label = f"{full_name(plan)}, seed {seed}"
    progress.trial(label, task.space.training.epochs)
    checkpoint = folder.path / "checkpoints" / f"{row}.safetensors"
    trained = processes.do(
        TrainPlan(plan.layers, seed), progress.epoch, checkpoint_file=checkpoint, misfit=progress.note
    )
    for path, part in parts:
        if part is not None:
            correct = score_row(trained.network, part, task.space.training.at_once, task.learning_task).numpy()
            record_confirmed(path, row, correct)
    folder.append_log({"event": "confirmed", "trial": trial, "seed": seed, "validation_score": trained.score})
    progress.trial_done(label, trained.score, None)
    Checkpoint(checkpoint).remove()
