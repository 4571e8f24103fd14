"""What comes before the trials of a study and after them, whoever trains these."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import TrialState
from torch import nn

from bitsearch.cost import Budget
from bitsearch.data.class_counts import class_counts
from bitsearch.layers.weights import load_weights, save_weights
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.one_standard_error import record_validation
from bitsearch.runs.paired import standard_error
from bitsearch.runs.progress import Progress, logged
from bitsearch.runs.run_settings import RunSettings
from bitsearch.runs.sweep import write_sweep
from bitsearch.runs.test_split import evaluate_test_split
from bitsearch.score import measured
from bitsearch.study.jobs import LoadWeights, MeasureInitialActivity, TrainFullPrecision
from bitsearch.study.objective import Objective
from bitsearch.study.plan_study import plan_study
from bitsearch.study.processes import ProcessGroup
from bitsearch.study.result import SearchResult
from bitsearch.study.sampler import MAX_HISTORY, TrialSampler
from bitsearch.study.shared_study import SharedStudy
from bitsearch.study.study import first_number, is_finished, is_intermediate, reset_interrupted
from bitsearch.study.trial_roles import StudyPlan, searched
from bitsearch.train.epoch_record import EpochRecord
from bitsearch.train.evaluate import score_row
from bitsearch.train.task import Task


@dataclass(frozen=True)
class Prepared:
    """A study whose trials can begin."""

    study_plan: StudyPlan
    objective: Objective
    network: nn.Module
    """In full precision."""


def prepare(
    folder: RunFolder,
    settings: RunSettings,
    processes: ProcessGroup,
    trials: int,
    progress: Progress,
    study: optuna.Study,
    shared: SharedStudy | None,
) -> Prepared:
    """Write the settings of a new run, or go on with it; train full precision, and plan the trials.

    Args:
        folder: made, and locked.
        settings: of this call; those in the folder are the same search.
        processes: of the run.
        trials: that search.
        progress: told how it goes.
        study: gets its sampler.
        shared: the study's other workers, where it has any.
    """
    task, budgets = processes.task, processes.budgets
    command = settings.command
    begin(folder, settings, task)
    settings = folder.settings
    if shared is None:
        reset_interrupted(study)
    else:
        shared.check_same(settings)
        shared.import_pretrained(folder)
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.FAIL:
            folder.forget_trial(trial.number)
        if is_finished(trial):
            # It may have been killed between its end and the end of its checkpoint.
            folder.forget_checkpoint(first_number(trial))
    space = task.space
    progress.score = task.learning_task.score
    progress.converted(task.conversion())
    network, activity = None, None
    counted = [*budgets, Budget(settings.metric, "axis", 0.0)]
    if any(task.model.needs_activity(budget.metric) for budget in counted):
        # Which uniform plans are feasible is judged by how often the trained network's neurons fire.
        network = full_precision(folder, processes, progress)
        activity = processes.do(MeasureInitialActivity(tuple(counted)))
    study_plan = plan_study(
        task,
        budgets,
        settings.metric,
        trials,
        activity,
        narrows=settings.goal is not None,
        stops=tuple(budget.limit for budget in settings.sweep),
        shortens=not settings.own_training,
    )
    if study_plan.searched < searched(space, trials):
        progress.note(
            f"[search.parameters] lets nothing vary: all {trials} trials at the budget would be the same; one is run"
        )
    done = sum(is_finished(trial) and not is_intermediate(trial) for trial in study.get_trials(deepcopy=False))
    if done < study_plan.total and folder.chosen_file.is_file():
        # The run has ended before: this is the command that gives it more trials.
        folder.write_settings(folder.settings.model_copy(update={"command": command}))
    progress.started(folder.path, study_plan.total, done)
    network = network or full_precision(folder, processes, progress)
    if study_plan.front is not None:
        row = score_row(network, task.splits.validation, space.training.at_once, task.learning_task).numpy()
        study_plan = study_plan.up_to(folder.settings.full_precision, standard_error(row, np.zeros_like(row)))
    if shared is not None:
        shared.publish(folder.settings, study_plan, folder.full_precision_weights)
    study.sampler = TrialSampler(space, settings.seed, study_plan)
    if study_plan.total > MAX_HISTORY and space.search.sampler != "random":
        progress.note(f"the sampler learns from the last {MAX_HISTORY} trials and the best before them")
    objective = Objective(
        folder, task, budgets, processes, progress, shared.artifacts if shared else None, study_plan.front
    )
    return Prepared(study_plan, objective, network)


def begin(folder: RunFolder, settings: RunSettings, task: Task) -> None:
    """Write the settings of a new run, and what its data hold; one that goes on keeps its own."""
    folder.clear_drafts()
    if not folder.settings_file.is_file():
        classes = {"validation": class_counts(task.splits, "validation")} if task.learning_task.has_classes else {}
        folder.append_log(
            {"event": "data", "trial": None, "phase": "data", "samples": task.splits.sizes, "classes": classes}
        )
        folder.write_settings(settings)


def conclude(folder: RunFolder, task: Task, network: nn.Module) -> SearchResult:
    """Choose, measure what is shown on the test split, and write the results; ``network`` is the float one."""
    # A test sample that cannot be read costs nothing of what was found.
    _write_results(folder)
    evaluate_test_split(folder, task, network)
    record_validation(folder, task, network)
    _write_results(folder)
    return SearchResult(folder, task.untrained, task)


def _write_results(folder: RunFolder) -> None:
    folder.write_tables()
    folder.chosen().save(folder.chosen_file)
    write_sweep(folder)


def full_precision(folder: RunFolder, processes: ProcessGroup, progress: Progress) -> nn.Module:
    """The float network that every trial starts from: trained once, then read from the run folder."""
    settings = folder.settings
    if settings.full_precision.validation is not None:
        load_pretrained(processes, folder.full_precision_weights, settings.signed_input)
        return processes.network
    progress.trial("full precision", processes.task.space.training.full_precision_epochs)
    score = processes.task.learning_task.score

    def on_epoch(record: EpochRecord) -> None:
        folder.append_log({"event": "epoch", "trial": None, **logged(record, score)})
        progress.epoch(record)

    checkpoint = folder.checkpoint_file(None)
    trained = processes.do(TrainFullPrecision(), on_epoch, checkpoint_file=checkpoint, misfit=progress.note)
    save_weights(processes.network, folder.full_precision_weights)
    reference = measured(score, validation=trained.score)
    update = {"full_precision": reference, "signed_input": trained.signed_input}
    folder.write_settings(settings.model_copy(update=update))
    folder.forget_checkpoint(None)
    progress.trial_done("full precision", trained.score, None)
    return processes.network


def load_pretrained(processes: ProcessGroup, path: Path, signed_input: bool | None) -> None:
    """Let all processes make the float network from weights that a run has already, and what its training showed."""
    network = processes.task.fresh_network()
    load_weights(network, path)
    weights = {name: value.cpu() for name, value in network.state_dict().items()}
    processes.do(LoadWeights(weights, signed_input))
