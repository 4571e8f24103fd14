"""A whole search: full precision once, then adaptive and uniform trials in one study, then the choice."""

import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import torch
from filelock import FileLock, Timeout
from optuna.trial import TrialState
from torch import nn

from bitsearch.allocate.device import is_leader, launched_processes
from bitsearch.allocate.evaluation import evaluate
from bitsearch.allocate.fabric import make_fabric
from bitsearch.allocate.setting import Setting, make_setting
from bitsearch.allocate.threads import limited_threads, threads_for
from bitsearch.allocate.trainer import EpochRecord
from bitsearch.allocate.uniform_plans import uniform_plans
from bitsearch.cost import parse_budgets
from bitsearch.cost.budget import check_metric, target_limits
from bitsearch.errors import InputError, StorageError
from bitsearch.layers import apply
from bitsearch.layers.weights import load_weights, save_weights
from bitsearch.passwords import masked
from bitsearch.plan import Accuracy, BitPlan
from bitsearch.quant.compilation import can_compile, compiled_quantizers
from bitsearch.quant.recomputation import recomputed_operands
from bitsearch.search.artifacts import Artifacts
from bitsearch.search.front import best_plan, table
from bitsearch.search.interruption import Stop
from bitsearch.search.objective import Objective
from bitsearch.search.processes import ExpectActivity, Processes, TakeWeights, TrainFullPrecision
from bitsearch.search.progress import Progress, Silent
from bitsearch.search.run_folder import RunBudget, RunFolder, RunSettings
from bitsearch.search.sampler import TrialSampler
from bitsearch.search.shared_study import SharedStudy
from bitsearch.search.storage import database_url, open_storage, warn_of_network_file_system
from bitsearch.search.study import (
    FAILURE,
    STUDY_NAME,
    Wanted,
    is_part,
    is_settled,
    open_study,
    origin_of,
    release_interrupted,
)
from bitsearch.search.trials import Taker
from bitsearch.space import SearchSpace
from bitsearch.version import __version__

COMPILE_FROM = 5e9
"""Spikes per time step of a whole run from which compiling its quantizers pays: a minute's compilation saves some tens
of nanoseconds a spike."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found; everything is also in its run folder."""

    folder: RunFolder

    @property
    def best(self) -> BitPlan:
        """The plan with the best validation accuracy that meets the budget."""
        return self.folder.chosen()

    @property
    def front(self) -> pd.DataFrame:
        """The Pareto front, cheapest first, one row a plan."""
        return table(self.folder.front())

    @property
    def trials(self) -> pd.DataFrame:
        """Every finished trial, one row a plan."""
        return table(self.folder.plans())

    @property
    def uniform(self) -> list[BitPlan]:
        """The uniform baselines, best validation accuracy first."""
        plans = [plan for plan in self.folder.plans() if plan.provenance.method == "uniform"]
        return sorted(plans, key=lambda plan: -(plan.accuracy.validation or 0.0))


def search(
    space: SearchSpace | str | Path,
    budget: str | Sequence[str],
    *,
    metric: str | None = None,
    objective: str | None = None,
    target: str | Path | None = None,
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
    """Search a space under a budget.

    Processes that ``torchrun`` started train every network together; the first one alone writes the run folder and
    is told how it goes.

    Args:
        space: a search space, the name of a shipped one, or the path of a TOML file.
        budget: ``4x`` (at most a quarter of the baseline's cost), a number in the metric's unit, or one with a unit and
            a metric of its own such as ``memory=64KiB``; or several of them, all of which are met.
        metric: what a budget limits that names no metric; the space's own by default.
        objective: cost that is set against accuracy; the first budget's metric by default.
        target: hardware target, by name or path; the space's own by default.
        trials: that search, of each method; the space's own number by default. Uniform baselines come on top.
        timeout: seconds after which no further trial starts.
        seed: of weights, batches and sampler.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        out: run folder; one that holds a run of the same search is gone on with. A new one in ``reports`` by default.
        reports: where new run folders are made.
        storage: database in which others find the study to work on, such as ``postgresql://user@host/database``; by
            default a file in the run folder.
        study: the study's name there; the run folder's by default.
        artifacts: folder that all its workers see, or ``s3://bucket``; ``artifacts`` in the run folder by default.
        progress: told how it goes.
        command: recorded as the command that made the run.

    Raises:
        InputError: anything the user gave is wrong, and nothing has been written; or the trials fail.
        StorageError: a disk or a database; the same call goes on once it works again.
        KeyboardInterrupt: by Ctrl-C, after the epoch; the same call goes on.
    """
    if not isinstance(space, SearchSpace):
        space = SearchSpace.load(space)
    if trials is not None and trials < 1:
        raise InputError(f"trials is {trials}; give at least 1")
    if target is not None:
        space = space.model_copy(update={"target": str(target)})
    if storage is None and (study is not None or artifacts is not None):
        raise InputError("study and artifacts are for a study in a database; give its URL with --storage")
    url = None if storage is None else database_url(storage)
    setting = make_setting(space, device=device)
    model = setting.model
    bare = check_metric(metric or space.metric, model.target)
    budgets = parse_budgets(budget, bare, model, space.baseline)
    axis = budgets[0].metric if objective is None else check_metric(objective, model.target)
    for limit in budgets:
        limit.check_feasible(model, setting.rules)
    wanted = trials or space.search.trials
    compiled = _compiles(setting, wanted)
    told = progress or Silent()
    # What fails is recorded and told here; Optuna would print a traceback as well.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    stop = Stop(lambda: told.note("stopping after this epoch; Ctrl-C again stops at once"))
    processes = Processes(setting, budgets, seed, make_fabric(setting.device, space.training.precision), stop)
    if not is_leader():
        with stop.listening(), computing(setting, compiled=compiled):
            return SearchResult(RunFolder(Path(processes.follow())))
    settings = RunSettings(
        compiled=compiled,
        metric=axis,
        budgets=tuple(RunBudget(**vars(limit), of_target=limit in target_limits(model.target)) for limit in budgets),
        seed=seed,
        device=str(setting.device),
        threads=threads_for(setting.activations),
        processes=launched_processes(),
        storage=None if storage is None else masked(storage),
        command=masked(command) if command else _python_command(space, budget, metric, objective, trials, seed),
        bitsearch=__version__,
        torch=torch.__version__,
        baseline_costs=model.costs(model.uniform(space.baseline, None)),
        space=space,
        target=model.target,
    )
    folder = RunFolder(Path(out)) if out is not None else RunFolder.new(Path(reports), space.name)
    _check_resumable(folder, settings)
    folder.make()
    warn_of_network_file_system(folder.path)
    with (
        _sole_owner(folder),
        stop.listening(),
        computing(setting, compiled=compiled),
        closing(open_storage(url or folder.storage_url)) as database,
    ):
        if url is None:
            return _run(folder, settings, processes, wanted, timeout, told, open_study(database, STUDY_NAME), None)
        settings = settings.model_copy(update={"study": study or folder.path.absolute().name})
        opened = open_study(database, settings.study or "")
        shared = SharedStudy(opened, Artifacts(artifacts or str(folder.path.absolute() / "artifacts")))
        return _run(folder, settings, processes, wanted, timeout, told, opened, shared)


@contextmanager
def _sole_owner(folder: RunFolder) -> Iterator[None]:
    """Inside, no other process writes to the run folder."""
    lock = FileLock(folder.path / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"another process is running the search in {folder.path}; wait for it, or give another --out"
        ) from error
    except OSError as error:
        raise StorageError(f"cannot write to the run folder {folder.path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def computing(setting: Setting, *, compiled: bool) -> Iterator[None]:
    """How every process of a run computes."""
    with (
        # Compiled code has its number of threads built in, so that is settled first.
        limited_threads(setting.activations),
        compiled_quantizers() if compiled else nullcontext(),
        recomputed_operands() if setting.space.training.recompute else nullcontext(),
    ):
        yield


def _python_command(
    space: SearchSpace,
    budget: str | Sequence[str],
    metric: str | None,
    objective: str | None,
    trials: int | None,
    seed: int,
) -> str:
    given = {"budget": budget, "metric": metric, "objective": objective, "trials": trials, "seed": seed}
    options = ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
    return f"bitsearch.search({space.name!r}, {options}, target={space.target!r})"


def _compiles(setting: Setting, trials: int) -> bool:
    """Whether this run trains with compiled quantizers, as its space says; InputError if it must and cannot."""
    choice = setting.space.training.compile
    if choice == "always" and not can_compile(setting.device):
        raise InputError(
            'training.compile is "always", but there is no compiler; install g++, or set "auto" or "never"'
        )
    if choice != "auto":
        return choice == "always"
    space = setting.space
    epochs = (_wanted(space, trials) + _baselines(space)) * space.training.epochs
    spikes = sum(layer.inputs for layer in setting.model.layers) * len(setting.splits.train) * epochs  # type: ignore[arg-type]
    return spikes >= COMPILE_FROM and can_compile(setting.device)


def _check_resumable(folder: RunFolder, settings: RunSettings) -> None:
    if not folder.settings_file.is_file():
        if folder.path.is_dir() and any(folder.path.iterdir()) and not (folder.path / ".lock").is_file():
            raise InputError(f"{folder.path} is not empty and not a run folder; give a new or an empty folder")
        return
    was, now = folder.settings.defining(), settings.defining()
    for name, value in now.items():
        if was[name] != value:
            shown = {
                "target": f"another hardware target, {folder.settings.target.name!r}",
                "space": f"another search space: {_difference(was[name], value)}",
                "budgets": f"budget {folder.settings.request!r}, not {settings.request!r}",
            }.get(name, f"{name} {was[name]!r}, not {value!r}")
            raise InputError(f"{folder.path} holds a run with {shown}; give another --out, or what it was started with")


def _difference(was: Any, now: Any, path: str = "") -> str:
    """The first setting that differs, and how."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in [*was, *now]:
            if name not in was or name not in now or was[name] != now[name]:
                return _difference(was.get(name), now.get(name), f"{path}.{name}" if path else str(name))
    return f"{path} is {was!r}, not {now!r}"


def _run(
    folder: RunFolder,
    settings: RunSettings,
    processes: Processes,
    trials: int,
    timeout: float | None,
    progress: Progress,
    study: optuna.Study,
    shared: SharedStudy | None,
) -> SearchResult:
    setting, budgets = processes.setting, processes.budgets
    folder.clear_drafts()
    deadline = None if timeout is None else time.monotonic() + timeout
    if not folder.settings_file.is_file():
        samples = {name: len(setting.splits.split(name)) for name in ("train", "validation", "test")}  # type: ignore[arg-type]
        folder.append_log({"event": "data", "trial": None, "phase": "data", "samples": samples})
        folder.write_settings(settings)
    settings = folder.settings
    if shared is None:
        release_interrupted(study)
    else:
        shared.check_same(settings)
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.FAIL:
            folder.forget_trial(trial.number)
        if is_settled(trial):
            # It may have been killed between its end and the end of its checkpoint.
            folder.forget_checkpoint(origin_of(trial))
    space = setting.space
    progress.converted(setting.conversion())
    network, activity = None, None
    if any(setting.model.needs_activity(budget.metric) for budget in budgets):
        # Which uniform plans are feasible is judged by how often the trained network's neurons fire.
        network = _full_precision(folder, processes, progress)
        activity = processes.do(ExpectActivity())
    most = _baselines(space)
    candidates = uniform_plans(setting.model, setting.rules, budgets, most, activity=activity) if most else []
    wanted = Wanted(_wanted(space, trials), candidates, space.search.methods)
    done = sum(is_settled(trial) and not is_part(trial) for trial in study.get_trials(deepcopy=False))
    progress.started(folder.path, wanted.total, done)
    network = network or _full_precision(folder, processes, progress)
    if shared is not None:
        shared.invite(settings, wanted, folder.full_precision_weights)
    study.sampler = TrialSampler(space, settings.seed, wanted)
    objective = Objective(folder, setting, budgets, processes, progress, shared.artifacts if shared else None)
    Taker(study, wanted, objective, folder, progress, processes.stop, processes.survive).take_all(deadline)
    _check_results(study)
    if shared is not None:
        shared.collect(folder)
    _read_test_split(folder, setting, network)
    folder.write_tables()
    folder.chosen().save(folder.chosen_file)
    processes.dismiss(str(folder.path))
    return SearchResult(folder)


def _check_results(study: optuna.Study) -> None:
    trials = study.get_trials(deepcopy=False)
    causes = [trial.user_attrs[FAILURE] for trial in trials if FAILURE in trial.user_attrs]
    if causes and not any(trial.state == TrialState.COMPLETE for trial in trials):
        raise InputError(f"all {len(causes)} trials failed, the last one: {causes[-1]}")


def _wanted(space: SearchSpace, trials: int) -> int:
    """Trials that search, of all methods together."""
    return trials * max(1, len(space.search.methods))


def _baselines(space: SearchSpace) -> int:
    """At most this many uniform plans are trained beside what is searched."""
    return 0 if space.search.methods else space.search.uniform_trials


def _full_precision(folder: RunFolder, processes: Processes, progress: Progress) -> nn.Module:
    """The float network that every trial starts from: trained once, then read from the run folder."""
    settings = folder.settings
    if settings.full_precision.validation is not None:
        take_weights(processes, folder.full_precision_weights)
        return processes.network
    progress.trial("full precision", processes.setting.space.training.full_precision_epochs)

    def on_epoch(record: EpochRecord) -> None:
        folder.append_log({"event": "epoch", "trial": None, **vars(record)})
        progress.epoch(record)

    kept = folder.checkpoint_file(None)
    accuracy = processes.do(TrainFullPrecision(), on_epoch, kept=kept, misfit=progress.note)
    save_weights(processes.network, folder.full_precision_weights)
    folder.write_settings(settings.model_copy(update={"full_precision": Accuracy(validation=accuracy)}))
    folder.forget_checkpoint(None)
    progress.trial_done("full precision", accuracy, None)
    return processes.network


def take_weights(processes: Processes, path: Path) -> None:
    """Let all processes make the float network from weights that a run has already."""
    network = processes.setting.fresh_network(processes.seed)
    load_weights(network, path)
    processes.do(TakeWeights({name: value.cpu() for name, value in network.state_dict().items()}))


def _read_test_split(folder: RunFolder, setting: Setting, network: nn.Module) -> None:
    """Measure test accuracy, once each, of the front, the choice, the baselines and full precision."""
    settings, test = folder.settings, setting.splits.test
    batch_size = setting.space.training.at_once
    if settings.full_precision.test is None:
        measured = settings.full_precision.model_copy(update={"test": evaluate(network, test, batch_size)})
        folder.write_settings(settings.model_copy(update={"full_precision": measured}))
    for plan in _shown(folder):
        if plan.accuracy.test is None:
            accuracy = evaluate(load_trial(folder, plan, network), test, batch_size)
            measured = plan.accuracy.model_copy(update={"test": accuracy})
            folder.write_plan(plan.model_copy(update={"accuracy": measured}))


def _shown(folder: RunFolder) -> Iterable[BitPlan]:
    plans = folder.plans()
    shown = {plan.provenance.trial for plan in [*folder.front(), folder.chosen()]}
    for method in folder.settings.space.search.methods:
        best = best_plan([plan for plan in plans if plan.provenance.method == method], folder.settings.metric)
        shown |= {best.provenance.trial} if best is not None else set()
    if not folder.settings.space.search.methods:
        shown |= {plan.provenance.trial for plan in plans if plan.provenance.method == "uniform"}
    return [plan for plan in plans if plan.provenance.trial in shown]


def load_trial(folder: RunFolder, plan: BitPlan, network: nn.Module) -> nn.Module:
    """The quantized network of a trial with its weights; ``network`` is the float one, left as it is."""
    assert plan.provenance.trial is not None
    quantized = apply(plan, network)
    load_weights(quantized, folder.weights_file(plan.provenance.trial))
    return quantized


def shell_command(arguments: Iterable[str]) -> str:
    """A command line as one would type it."""
    processes = launched_processes()
    start = ["bitsearch"] if processes == 1 else ["torchrun", f"--nproc-per-node={processes}", "-m", "bitsearch"]
    return shlex.join([*start, *arguments])
