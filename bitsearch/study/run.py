"""A whole search: full precision once, then adaptive and uniform trials in one study, then the choice."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import TrialState
from torch import nn

from bitsearch.cost import Budget, parse_budgets
from bitsearch.cost.budget import check_metric, target_limits
from bitsearch.data.class_counts import class_counts
from bitsearch.errors import InputError, redact
from bitsearch.launch import is_rank_zero, launched_world_size
from bitsearch.layers.weights import load_weights, save_weights
from bitsearch.models.trained_weights import checksum
from bitsearch.plan import Accuracy
from bitsearch.registry import import_path
from bitsearch.runs.command_line import python_command
from bitsearch.runs.folder import RunFolder, RunSettings
from bitsearch.runs.goal import AccuracyGoal
from bitsearch.runs.interruption import Stop
from bitsearch.runs.one_standard_error import record_validation
from bitsearch.runs.progress import Progress
from bitsearch.runs.resume import check_resumable, lock_run_folder
from bitsearch.runs.test_accuracy import evaluate_test_split
from bitsearch.space import SearchSpace
from bitsearch.study.database.storage import database_url, open_storage, warn_of_network_file_system
from bitsearch.study.jobs import LoadWeights, MeasureInitialActivity, TrainFullPrecision
from bitsearch.study.objective import Objective
from bitsearch.study.objects import object_checksum, objects_of, space_of
from bitsearch.study.plan_study import plan_study
from bitsearch.study.processes import ProcessGroup
from bitsearch.study.result import SearchResult
from bitsearch.study.runtime import runtime_context, should_compile
from bitsearch.study.sampler import MAX_HISTORY, TrialSampler
from bitsearch.study.shared_study import SharedStudy
from bitsearch.study.study import (
    DUPLICATE,
    FAILURE,
    ROLE,
    SEARCHED,
    STUDY_NAME,
    first_number,
    is_finished,
    is_intermediate,
    open_study,
    reset_interrupted,
)
from bitsearch.study.trial_loop import TrialRunner
from bitsearch.study.trial_roles import searched
from bitsearch.train.epoch_record import EpochRecord
from bitsearch.train.fabric import make_fabric, process_group
from bitsearch.train.task import load_task
from bitsearch.train.threads import threads_for
from bitsearch.validation import MAX_SEEDS
from bitsearch.version import __version__


def search(
    source: SearchSpace | str | Path | nn.Module,
    data: Any = None,
    budget: str | Sequence[str] | None = None,
    *,
    space: SearchSpace | str | Path | None = None,
    time_axis: int | None = None,
    epochs: int | None = None,
    full_precision_epochs: int | None = None,
    learning_rate: float | None = None,
    optimizer: str | Callable[..., Any] | None = None,
    training: Mapping[str, Any] | None = None,
    method: str | None = None,
    metric: str | None = None,
    objective: str | None = None,
    max_drop: str | float | None = None,
    minimize: str | None = None,
    target: str | Path | None = None,
    weights: str | Path | None = None,
    trials: int | None = None,
    timeout: float | None = None,
    seed: int = 0,
    device: str = "auto",
    out: str | Path | None = None,
    reports: str | Path = "reports",
    storage: str | None = None,
    study: str | None = None,
    artifacts: str | None = None,
    progress: Progress | None = None,
    command: str | None = None,
) -> SearchResult:
    """Search a space, or a network and data of your own, under a budget.

    ``search("digits", "4x")`` searches a space; ``search(network, (train, validation, test), budget="4x")`` a torch
    module with its weights, on data sets or loaders. The network is left as it is: every trial trains a copy. Without
    a test part, what is reported is what plans were chosen by, and the result says so.

    Processes that were started together (``--processes``, ``torchrun``) train every network together; the first one
    alone writes the run folder and is told how it goes.

    Args:
        source: a search space, the name of a shipped one, or the path of a TOML file; or a network.
        data: of a network: (train, validation, test) or (train, validation), all of them data sets or all of them
            loaders, whose batches are used as they are; or :class:`bitsearch.Splits`. Of a space: the budget, if it is
            not given by name.
        budget: ``4x`` (at most a quarter of the baseline's cost), or a number of a named metric such as
            ``memory=64KiB``; or several of them, all of which are met.
        space: of a network: whose settings (choices, training, allocation, outer loop) it is searched with; those of
            ``digits`` by default.
        time_axis: of a network: the axis of the frames in the loaders' batches, 0 or 1; the network gets them time
            first. None for data without frames.
        epochs: of every quantized trial; the space's own by default.
        full_precision_epochs: that the network is trained before; the space's own by default, and none of a network.
        learning_rate: the space's own by default.
        optimizer: ``adam``, ``adamw``, ``sgd``, or a factory that can be imported, itself or by name; the space's own
            by default.
        training: further fields of ``[training]``, such as ``{"schedule": "one_cycle", "ema": 0.99}``.
        method: how bits are found; the space's own by default.
        metric: what a budget limits that names no metric; the space's own by default.
        objective: cost that is set against accuracy; the first budget's metric by default.
        max_drop: the most validation accuracy that the chosen plan may lose against full precision: ``0.5`` points, or
            ``2%`` of it; with ``+1se`` a standard error is added to what a plan loses, paired over the samples. The
            cheapest such plan is searched and chosen, within the budgets if there are any.
        minimize: the cost that is saved then; the first budget's metric, or the space's own, by default.
        target: hardware target, by name or path; the space's own by default.
        weights: file of the network's trained weights (safetensors, or a checkpoint of torch's), which are taken as
            they are; the space's own by default, or else full precision is trained from fresh ones.
        trials: number of search trials for each method; the space's own number by default. Uniform baselines come on
        top.
        timeout: seconds after which no further trial starts.
        seed: of weights, batches and sampler.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        out: run folder; one that holds a run of the same search is gone on with. A new one in ``reports`` by default.
        reports: where new run folders are made.
        storage: database in which others find the study to work on, such as ``postgresql://user@host/database``; by
            default a file in the run folder.
        study: the study's name there; the run folder's by default.
        artifacts: folder that all its workers see, or ``s3://bucket``; by default where the study has them already, or
            ``artifacts`` in the run folder.
        progress: told how it goes.
        command: recorded as the command that made the run.

    Raises:
        InputError: anything the user gave is wrong, and nothing has been written; or the trials fail.
        StorageError: a disk or a database; the same call goes on once it works again.
        KeyboardInterrupt: by Ctrl-C, after the epoch; the same call goes on.

    >>> result = bitsearch.search(space, budget="8x", trials=1, timeout=0, out="mine")
    >>> result.best.met, len(result.front)
    (True, 1)
    """
    if callable(optimizer):
        optimizer = import_path(optimizer, "optimizer")
    named = {
        "epochs": epochs,
        "full_precision_epochs": full_precision_epochs,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
    }
    changes = {**(training or {}), **{name: value for name, value in named.items() if value is not None}}
    objects = None
    if isinstance(source, nn.Module):
        if data is None or (budget is None and max_drop is None):
            raise InputError("a network comes with its data and a budget: search(network, (train, validation), '4x')")
        objects = objects_of(source, data, time_axis=time_axis)
        space = space_of(objects, space, changes)
    else:
        if space is not None or time_axis is not None or (data is not None and budget is not None):
            raise InputError("data, space and time_axis are for a network; a search space has its own")
        budget = data if budget is None else budget
        if budget is None and max_drop is None:
            raise InputError("no budget is given; give one such as '4x', or how much accuracy may be lost: max_drop")
        space = source if isinstance(source, SearchSpace) else SearchSpace.load(source)
        space = space.with_training(changes)
    space = space if method is None else space.with_method(method)
    if trials is not None and trials < 1:
        raise InputError(f"trials is {trials}; give at least 1")
    if not 0 <= seed < MAX_SEEDS:
        raise InputError(f"seed is {seed}; give a whole number from 0 to 2^64 - 1")
    if target is not None:
        space = space.model_copy(update={"target": str(target)})
    if weights is not None:
        space = space.with_weights(weights)
    if objects is None and space.weights is None and space.training.full_precision_epochs == 0:
        raise InputError(
            "training.full_precision_epochs is 0, and there are no trained weights to start from; give their file with "
            "--weights, or at least one epoch"
        )
    if storage is None and (study is not None or artifacts is not None):
        raise InputError("study and artifacts are for a study in a database; give its URL with --storage")
    url = None if storage is None else database_url(storage)
    weights_sha256 = None if space.weights is None else checksum(Path(space.weights))
    if objects is not None:
        weights_sha256 = object_checksum(objects.network)
    task = load_task(space, seed=seed, device=device, objects=objects)
    space, model = task.space, task.model
    bare = check_metric(metric or space.metric, model.target)
    goal = _goal(max_drop, minimize, objective, space)
    if budget is None or (goal is not None and not budget):
        budgets = target_limits(model.target)
        axis = bare
    else:
        budgets = parse_budgets(budget, bare, model, space.baseline)
        axis = budgets[0].metric
    if objective or minimize:
        axis = check_metric(objective or minimize or "", model.target)
    for limit in budgets:
        limit.check_feasible(model, task.rules)
    trial_count = trials or space.search.trials
    compiled = should_compile(task, trial_count)
    reporter = progress or Progress()
    # What fails is recorded and told here; Optuna would print a traceback as well.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    stop = Stop(lambda: reporter.note("stopping after this epoch; Ctrl-C again stops at once"))
    with process_group():
        processes = ProcessGroup(task, budgets, seed, make_fabric(task.device, space.training.precision), stop)
        if not is_rank_zero():
            with stop.handle_signals(), runtime_context(task, compiled=compiled):
                return SearchResult(RunFolder(Path(processes.serve())), task.untrained, task.examples)
        with processes.leading():
            settings = RunSettings(
                compiled=compiled,
                metric=axis,
                budgets=tuple(budgets),
                goal=goal,
                seed=seed,
                device=str(task.device),
                threads=threads_for(task.activations),
                processes=launched_world_size(),
                storage=None if storage is None else redact(storage),
                command=redact(command)
                if command
                else python_command(
                    space,
                    budget=budget or None,
                    metric=metric,
                    objective=objective,
                    max_drop=max_drop,
                    minimize=minimize,
                    trials=trials,
                    seed=seed,
                ),
                bitsearch=__version__,
                torch=torch.__version__,
                weights_sha256=weights_sha256,
                baseline_costs=model.costs(model.uniform(space.baseline, None)),
                space=space,
                target=model.target,
            )
            folder = RunFolder(Path(out)) if out is not None else RunFolder.new(Path(reports), space.name)
            check_resumable(folder, settings)
            folder.make()
            warn_of_network_file_system(folder.path)
            with (
                lock_run_folder(folder),
                stop.handle_signals(),
                runtime_context(task, compiled=compiled),
                closing(open_storage(url or folder.storage_url)) as database,
            ):
                if url is None:
                    opened, shared = open_study(database, STUDY_NAME), None
                else:
                    settings = settings.model_copy(update={"study": study or folder.path.absolute().name})
                    opened = open_study(database, settings.study or "")
                    shared = SharedStudy(opened, artifacts, fallback=str(folder.path.absolute() / "artifacts"))
                return _run(folder, settings, processes, trial_count, timeout, reporter, opened, shared)


def _goal(
    max_drop: str | float | None, minimize: str | None, objective: str | None, space: SearchSpace
) -> AccuracyGoal | None:
    if max_drop is None:
        if minimize is not None:
            raise InputError(
                "minimize is for an accuracy goal; give max_drop as well, or objective for a budget's front"
            )
        return None
    if objective is not None:
        raise InputError("objective and max_drop were both given; with max_drop, minimize names the cost")
    if space.search.methods:
        raise InputError("search.methods and max_drop were both given; methods take turns at a budget only")
    return AccuracyGoal.parse(str(max_drop))


def _run(
    folder: RunFolder,
    settings: RunSettings,
    processes: ProcessGroup,
    trials: int,
    timeout: float | None,
    progress: Progress,
    study: optuna.Study,
    shared: SharedStudy | None,
) -> SearchResult:
    task, budgets = processes.task, processes.budgets
    folder.clear_drafts()
    deadline = None if timeout is None else time.monotonic() + timeout
    command = settings.command
    if not folder.settings_file.is_file():
        classes = {"validation": class_counts(task.splits, "validation")}
        folder.append_log(
            {"event": "data", "trial": None, "phase": "data", "samples": task.splits.sizes, "classes": classes}
        )
        folder.write_settings(settings)
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
    progress.converted(task.conversion())
    network, activity = None, None
    counted = [*budgets, Budget(settings.metric, "axis", 0.0)]
    if any(task.model.needs_activity(budget.metric) for budget in counted):
        # Which uniform plans are feasible is judged by how often the trained network's neurons fire.
        network = _full_precision(folder, processes, progress)
        activity = processes.do(MeasureInitialActivity(tuple(counted)))
    study_plan = plan_study(task, budgets, settings.metric, trials, activity, narrows=settings.goal is not None)
    if study_plan.searched < searched(space, trials):
        progress.note(
            f"[search.parameters] lets nothing vary: all {trials} trials at the budget would be the same; one is run"
        )
    done = sum(is_finished(trial) and not is_intermediate(trial) for trial in study.get_trials(deepcopy=False))
    if done < study_plan.total and folder.chosen_file.is_file():
        # The run has ended before: this is the command that gives it more trials.
        folder.write_settings(folder.settings.model_copy(update={"command": command}))
    progress.started(folder.path, study_plan.total, done)
    network = network or _full_precision(folder, processes, progress)
    study_plan = study_plan.up_to(folder.settings.full_precision.validation)
    if shared is not None:
        shared.publish(folder.settings, study_plan, folder.full_precision_weights)
    study.sampler = TrialSampler(space, settings.seed, study_plan)
    if study_plan.total > MAX_HISTORY and space.search.sampler != "random":
        progress.note(f"the sampler learns from the last {MAX_HISTORY} trials and the best before them")
    objective = Objective(
        folder, task, budgets, processes, progress, shared.artifacts if shared else None, study_plan.front
    )
    TrialRunner(study, study_plan, objective, folder, progress, processes.stop, processes.can_continue).run_all(
        deadline
    )
    _check_results(study)
    if shared is not None:
        shared.download_results(folder)
    # A test sample that cannot be read costs nothing of what was found.
    _write_results(folder)
    evaluate_test_split(folder, task, network)
    record_validation(folder, task, network)
    _write_results(folder)
    processes.shutdown(str(folder.path))
    return SearchResult(folder, task.untrained, task.examples)


def _write_results(folder: RunFolder) -> None:
    folder.write_tables()
    folder.chosen().save(folder.chosen_file)


def _check_results(study: optuna.Study) -> None:
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.user_attrs.get(ROLE) != DUPLICATE]
    failed = [trial for trial in trials if FAILURE in trial.user_attrs]
    trained = {trial.user_attrs.get(ROLE) for trial in trials if trial.state == TrialState.COMPLETE}
    if failed and not trained:
        raise InputError(f"all {len(failed)} trials failed, the last one: {failed[-1].user_attrs[FAILURE]}")
    searching = [trial for trial in failed if trial.user_attrs.get(ROLE) == SEARCHED]
    if searching and SEARCHED not in trained:
        raise InputError(
            f"no learned allocation was trained: {len(searching)} trial{'' if len(searching) == 1 else 's'} failed, "
            f"the last because {searching[-1].user_attrs[FAILURE]}; mend it, and give the same command with more "
            "--trials"
        )


def _full_precision(folder: RunFolder, processes: ProcessGroup, progress: Progress) -> nn.Module:
    """The float network that every trial starts from: trained once, then read from the run folder."""
    settings = folder.settings
    if settings.full_precision.validation is not None:
        load_pretrained(processes, folder.full_precision_weights, settings.signed_input)
        return processes.network
    progress.trial("full precision", processes.task.space.training.full_precision_epochs)

    def on_epoch(record: EpochRecord) -> None:
        folder.append_log({"event": "epoch", "trial": None, **vars(record)})
        progress.epoch(record)

    checkpoint = folder.checkpoint_file(None)
    trained = processes.do(TrainFullPrecision(), on_epoch, checkpoint_file=checkpoint, misfit=progress.note)
    save_weights(processes.network, folder.full_precision_weights)
    measured = {"full_precision": Accuracy(validation=trained.accuracy), "signed_input": trained.signed_input}
    folder.write_settings(settings.model_copy(update=measured))
    folder.forget_checkpoint(None)
    progress.trial_done("full precision", trained.accuracy, None)
    return processes.network


def load_pretrained(processes: ProcessGroup, path: Path, signed_input: bool | None) -> None:
    """Let all processes make the float network from weights that a run has already, and what its training showed."""
    network = processes.task.fresh_network()
    load_weights(network, path)
    weights = {name: value.cpu() for name, value in network.state_dict().items()}
    processes.do(LoadWeights(weights, signed_input))
