"""A whole search: full precision once, then adaptive and uniform trials in one study, then the choice."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from torch import nn

from bitsearch.choices import NeuronChoice
from bitsearch.errors import InputError
from bitsearch.launch import is_rank_zero
from bitsearch.layer_rules import LayerRule, TieRule
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.interruption import Stop
from bitsearch.runs.notebook_progress import progress_of_session
from bitsearch.runs.progress import Progress
from bitsearch.runs.run_settings import RunSettings
from bitsearch.runs.trackers import check_tracker
from bitsearch.runs.tracking import Tracking, tracked
from bitsearch.space import SearchSpace
from bitsearch.study import arguments
from bitsearch.study.confirm import check_confirm, confirm_finalists
from bitsearch.study.database.storage import database_url
from bitsearch.study.opening import held_study, make_folder, make_processes
from bitsearch.study.phases import conclude, prepare
from bitsearch.study.processes import ProcessGroup
from bitsearch.study.request import resolve
from bitsearch.study.result import SearchResult
from bitsearch.study.runtime import runtime_context
from bitsearch.study.shared_study import SharedStudy
from bitsearch.study.study import DUPLICATE, FAILURE, ROLE, SEARCHED
from bitsearch.study.trial_loop import TrialRunner
from bitsearch.train.fabric import process_group


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
    task: str | Mapping[str, Any] | None = None,
    loss: Any = None,
    method: str | None = None,
    metric: str | None = None,
    objective: str | None = None,
    max_drop: str | float | None = None,
    minimize: str | None = None,
    sweep: str | Sequence[str] | None = None,
    target: str | Path | None = None,
    weights: str | Path | None = None,
    layers: Sequence[LayerRule | Mapping[str, Any] | str] = (),
    ties: Sequence[TieRule | Mapping[str, Any] | str] = (),
    neuron: NeuronChoice | Mapping[str, Any] | None = None,
    trials: int | None = None,
    timeout: float | None = None,
    confirm: int | None = None,
    seed: int = 0,
    device: str = "auto",
    out: str | Path | None = None,
    reports: str | Path = "reports",
    storage: str | None = None,
    study: str | None = None,
    artifacts: str | None = None,
    logger: str | None = None,
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
        task: what networks learn: its name, such as ``regression``, or fields of ``[task]``, such as ``{"name":
            "regression", "loss": "huber", "metric": "r2"}``, where a loss or a metric may be a function of the user's;
            the space's own by default, and classification of a network.
        loss: that networks are trained with, in place of the task's own: its name, one of torch's such as
            ``nn.CrossEntropyLoss(label_smoothing=0.1)``, or a function (outputs, targets) that can be imported.
        method: how bits are found; the space's own by default.
        metric: what a budget limits that names no metric; the space's own by default.
        objective: cost that is set against accuracy; the first budget's metric by default.
        max_drop: the most validation accuracy that the chosen plan may lose against full precision: ``0.5`` points, or
            ``2%`` of it; of a score that is no share, in its own unit. With ``+1se`` a standard error is added to what
            a plan loses, paired over the samples. The cheapest such plan is searched and chosen, within the budgets if
            there are any.
        minimize: the cost that is saved then; the first budget's metric, or the space's own, by default.
        sweep: budgets on one metric, ``4x,8x,16x``, to which trials go in turns; each gets a plan. The loosest is what
            the chosen plan meets; budgets on other metrics are met by all.
        target: hardware target, by name or path; the space's own by default.
        weights: file of the network's trained weights (safetensors, or a checkpoint of torch's), which are taken as
            they are; the space's own by default, or else full precision is trained from fresh ones.
        layers: further entries of the space's ``[[layers]]``: tables such as ``{"match": "layer3.*", "weight_bits":
            8}``, or as on the command line, ``"layer3.*:weight_bits=8"``.
        ties: further entries of its ``[[ties]]``: tables such as ``{"match": ["query", "key"], "share":
            ["weight_bits"]}``, or as on the command line, ``"query,key:weight_bits"``.
        neuron: reset and start of the refined neurons, :class:`bitsearch.NeuronChoice` or its fields, such as
            ``{"reset": "zero"}``; what it leaves out is as in the space's ``[neuron]``.
        trials: number of search trials for each method; the space's own number by default. Uniform baselines come on
            top.
        timeout: seconds after which no further trial starts.
        confirm: so many further seeds with which the finalists are trained at the end: the chosen plan, the best of the
            other kind, the cheapest within one standard error. The verdict is about these trainings then.
        seed: of weights, batches and sampler.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        out: run folder; one that holds a run of the same search is gone on with. A new one in ``reports`` by default.
        reports: where new run folders are made.
        storage: database in which others find the study to work on, such as ``postgresql://user@host/database``; by
            default a file in the run folder.
        study: the study's name there; the run folder's by default.
        artifacts: folder that all its workers see, or ``s3://bucket``; by default where the study has them already, or
            ``artifacts`` in the run folder.
        logger: ``tensorboard``, ``mlflow`` or ``wandb``, which gets every trial as a run, and the chosen plan.
        progress: told how it goes; by default a notebook shows it, and a program prints nothing.
        command: recorded as the command that made the run.

    Raises:
        InputError: anything the user gave is wrong, and nothing has been written; or the trials fail.
        StorageError: a disk or a database; the same call goes on once it works again.
        KeyboardInterrupt: by Ctrl-C, after the epoch; the same call goes on.

    >>> result = bitsearch.search(space, budget="8x", trials=1, timeout=0, out="mine")
    >>> result.best.met, len(result.front)
    (True, 1)
    """
    if logger is not None:
        check_tracker(logger)
    if progress is not None and not isinstance(progress, Progress):
        raise InputError(f"progress is {progress!r}; give an object that is told, or none for this session's own")
    timeout = arguments.seconds(timeout)
    named = {
        "epochs": epochs,
        "full_precision_epochs": full_precision_epochs,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
    }
    request = resolve(
        source,
        data,
        budget,
        space=space,
        time_axis=time_axis,
        training=arguments.recipe(training, named),
        learning_task=task,
        loss=loss,
        method=method,
        metric=metric,
        objective=objective,
        max_drop=max_drop,
        minimize=minimize,
        sweep=sweep,
        target=target,
        weights=weights,
        layers=layers,
        ties=ties,
        neuron=neuron,
        trials=trials,
        seed=seed,
        device=device,
        storage=storage,
        command=command,
    )
    if storage is None and (study is not None or artifacts is not None):
        raise InputError("study and artifacts are for a study in a database; give its URL with --storage")
    if confirm is not None:
        check_confirm(confirm, seed)
    url = None if storage is None else database_url(storage)
    loaded, settings = request.task, request.settings
    reporter = progress or progress_of_session()
    stop = Stop(lambda: reporter.note("stopping after this epoch; Ctrl-C again stops at once"))
    with process_group():
        processes = make_processes(loaded, settings, stop)
        if not is_rank_zero():
            with stop.handle_signals(), runtime_context(loaded, compiled=settings.compiled):
                return SearchResult(RunFolder(Path(processes.serve())), loaded.untrained, loaded)
        with processes.leading():
            folder = make_folder(settings, out, reports)
            if url is not None:
                settings = settings.model_copy(update={"study": study or folder.path.absolute().name})
            with (
                stop.handle_signals(),
                runtime_context(loaded, compiled=settings.compiled),
                held_study(folder, url, settings.study) as opened,
            ):
                fallback = str(folder.path.absolute() / "artifacts")
                shared = None if url is None else SharedStudy(opened, artifacts, fallback=fallback)
                with tracked(logger, folder, reporter) as told:
                    result = _run(folder, settings, processes, request.trials, timeout, confirm, told, opened, shared)
                if logger is not None:
                    Tracking(logger, folder, reporter).attach(folder.chosen_file)
                return result


def _run(
    folder: RunFolder,
    settings: RunSettings,
    processes: ProcessGroup,
    trials: int,
    timeout: float | None,
    confirm: int | None,
    progress: Progress,
    study: optuna.Study,
    shared: SharedStudy | None,
) -> SearchResult:
    deadline = None if timeout is None else time.monotonic() + timeout
    prepared = prepare(folder, settings, processes, trials, progress, study, shared)
    TrialRunner(
        study, prepared.study_plan, prepared.objective, folder, progress, processes.stop, processes.can_continue
    ).run_all(deadline)
    _check_results(study)
    if shared is not None:
        shared.download_results(folder)
    result = conclude(folder, processes.task, prepared.network)
    if confirm is not None:
        confirm_finalists(folder, processes, confirm, progress)
    processes.shutdown(str(folder.path))
    return result


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
