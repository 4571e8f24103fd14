"""Joining runs of one network on the same data: all of their plans in one run folder, with one front and one choice."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn

from bitsearch.errors import InputError, StorageError
from bitsearch.files import DRAFT_PREFIX, read_bytes, write_whole
from bitsearch.layers.weights import load_weights
from bitsearch.registry import OBJECT
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.one_standard_error import record_validation
from bitsearch.runs.rebuild import require_trust
from bitsearch.runs.resume import first_difference
from bitsearch.runs.rows import read_rows, record_rows
from bitsearch.runs.run_settings import RunSettings
from bitsearch.runs.sweep import write_sweep
from bitsearch.runs.test_split import evaluate_test_split
from bitsearch.space import SearchSpace
from bitsearch.study.objects import object_checksum, objects_of, space_of
from bitsearch.study.result import SearchResult
from bitsearch.train.task import Objects, Task, load_task
from bitsearch.train.threads import limited_threads

ALIKE = (
    *("name", "network", "network_options", "data", "data_options", "split_seed", "include", "exclude"),
    *("signed_input", "neurons", "baseline", "first_layer", "ties"),
)
"""What two runs' search spaces have in common, so that their plans are of one network and their costs of one kind."""


def merge(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    network: nn.Module | None = None,
    data: Any = None,
    time_axis: int | None = None,
    trust: bool = False,
    device: str = "auto",
    command: str | None = None,
) -> SearchResult:
    """Join the plans of several runs in a new run folder, so that one front, one choice and one page hold them all.

    The first run's budgets and axis are those of the merged one: all plans are judged by them anew. Trials are numbered
    on. Of runs with different seeds, full precision is the one that is best on validation. What the merged run shows,
    and the runs have not measured of it, is measured.

    Args:
        runs: at least two run folders; they are left as they are.
        out: new or empty folder.
        network: where the runs' network was an object, that object; otherwise the run folders name it.
        data: likewise, as for :func:`bitsearch.search`, as is ``time_axis``.
        trust: run code of the user's own that the run folders name.
        device: to measure on.
        command: recorded as the command that made the merged run.

    Raises:
        InputError: runs of different networks, data, targets or starting weights, each by name; a run without plans; or
            ``out`` holds something. Nothing has been written then.

    >>> other = bitsearch.search(space, "4x", trials=1, timeout=0, out="other")
    >>> merged = bitsearch.merge(["run", "other"], "merged")
    >>> len(merged.trials) == len(bitsearch.load("run").trials) + len(other.trials)
    True
    """
    folders = [RunFolder.open(run) for run in runs]
    if len({folder.path.resolve() for folder in folders}) < max(2, len(folders)):
        raise InputError(f"runs are {', '.join(map(str, runs)) or 'none'}; give at least two, each once")
    for folder in folders[1:]:
        _check_alike(folders[0], folder)
    for folder in folders:
        if not folder.plans():
            raise InputError(f"{folder.path} has no plan yet; go on with it, or leave it out")
    path = Path(out)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} is not empty; give a new or an empty folder")
    settings = folders[0].settings
    if settings.goal is not None and settings.goal.errors:
        raise InputError(
            f"{folders[0].path} has the goal {settings.goal.requested!r}, whose standard errors are not known of other "
            "runs' plans; put a run without them first"
        )
    task = _task(settings, network, data, time_axis, trust=trust, device=device)
    names = ", ".join(repr(str(run)) for run in runs)
    settings = settings.model_copy(
        update={
            "command": command or f"bitsearch.merge([{names}], {str(out)!r})",
            "merged": tuple(str(folder.path) for folder in folders),
            "storage": None,
            "study": None,
        }
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = RunFolder(Path(tempfile.mkdtemp(prefix=f"{DRAFT_PREFIX}{path.name}", dir=path.parent)))
    except OSError as error:
        raise StorageError(f"cannot write to {path.parent}: {error.strerror or error}") from error
    try:
        _join(folders, settings, draft)
        _measure(draft, task)
        if path.is_dir():
            path.rmdir()
        draft.path.rename(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft.path, ignore_errors=True)
    return SearchResult(RunFolder(path), task.untrained, task)


def _check_alike(first: RunFolder, other: RunFolder) -> None:
    """InputError that names the first thing in which two runs' networks, data, costs or starting weights differ."""

    def refuse(difference: str) -> None:
        raise InputError(
            f"{first.path} and {other.path} cannot be merged: {difference}; merge runs of one network on the same data"
        )

    ours, theirs = first.settings, other.settings
    was, now = ({name: run.space.model_dump()[name] for name in ALIKE} for run in (ours, theirs))
    if was != now:
        refuse(first_difference(was, now))
    if ours.target != theirs.target:
        refuse(f"their hardware targets, {ours.target.name!r} and {theirs.target.name!r}, are not the same")
    if ours.weights_sha256 != theirs.weights_sha256:
        refuse("they began with other weights")
    if ours.signed_input != theirs.signed_input:
        refuse(f"signed_input is {ours.signed_input}, not {theirs.signed_input}")
    if _shapes(first) != _shapes(other):
        refuse("their networks have other tensors")
    objects = ours.space.network.endswith(OBJECT) or ours.space.data.endswith(OBJECT)
    if objects and ours.full_precision.validation != theirs.full_precision.validation:
        # All that a folder knows of data that were objects.
        refuse("the same network has another score in each, so that their validation data differ")


def _shapes(folder: RunFolder) -> dict[str, list[int]]:
    path = folder.full_precision_weights
    if not path.is_file():
        raise InputError(f"{folder.path} has no weights of full precision; put {path.name} back, or leave it out")
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  not a dict
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from error


def _task(
    settings: RunSettings, network: nn.Module | None, data: Any, time_axis: int | None, *, trust: bool, device: str
) -> Task:
    """The runs' task, without the weights' file, which may have moved."""
    space = settings.space.model_copy(update={"weights": None})
    objects = None
    if space.network.endswith(OBJECT):
        if network is None or data is None:
            raise InputError(
                f"the runs' network was an object, {space.network!r}; give it and its data again: "
                "bitsearch.merge(FOLDERS, OUT, network=NETWORK, data=DATA)"
            )
        objects = objects_of(network, data, time_axis=time_axis, task=space.task)
        _check_objects(objects, space, settings.weights_sha256)
    elif network is not None or data is not None:
        raise InputError(f"the runs' network is {space.network!r}, which their folders name; give no network and data")
    elif not trust:
        require_trust(space, "a run that is merged")
    return load_task(space, seed=settings.seed, device=device, target=settings.target, objects=objects)


def _check_objects(objects: Objects, space: SearchSpace, weights_sha256: str | None) -> None:
    if object_checksum(objects.network) != weights_sha256:
        raise InputError("network is another one than the runs began with, or has other weights; give that one")
    described = space_of(objects, space, {}).model_dump()
    kept = space.model_dump()
    for name in ("data", "data_options"):
        if described[name] != kept[name]:
            raise InputError(f"the runs' data are others: {first_difference(kept[name], described[name], name)}")


def _join(folders: Sequence[RunFolder], settings: RunSettings, merged: RunFolder) -> None:
    """Copy plans, weights, logs and which samples were right, with trials numbered on, and judge the plans anew."""
    merged.make()
    best = max(folders, key=lambda folder: folder.settings.full_precision.validation or 0.0)
    full_precision = best.settings.full_precision
    merged.write_settings(settings.model_copy(update={"full_precision": full_precision}))
    _copy_weights(best.full_precision_weights, merged.full_precision_weights)
    tables: dict[Path, dict[str, Any]] = {merged.test_file: {}, merged.validation_file: {}}
    offset = 0
    for folder in folders:
        plans = folder.plans()
        rows = {}
        for plan in plans:
            trial = plan.provenance.trial
            assert trial is not None
            _copy_weights(folder.weights_file(trial), merged.weights_file(trial + offset))
            rows[folder.weights_file(trial).stem] = merged.weights_file(trial + offset).stem
            for metric in (settings.metric, *settings.limits):
                if metric not in plan.costs:
                    raise InputError(
                        f"{folder.plan_file(trial)} has no cost {metric!r}, by which {folders[0].path} judges plans"
                    )
            outcomes = [budget.outcome(plan.costs[budget.metric]) for budget in settings.budgets]
            if settings.goal is not None and full_precision.validation is not None:
                assert plan.measured.validation is not None
                reference, score = full_precision.validation, full_precision.score
                outcomes.append(settings.goal.outcome(reference, plan.measured.validation, 0.0, score))
            merged.write_plan(
                plan.model_copy(
                    update={
                        "budget": tuple(outcomes),
                        "provenance": plan.provenance.model_copy(update={"trial": trial + offset}),
                    }
                )
            )
        if folder is best:
            rows[folder.full_precision_weights.stem] = merged.full_precision_weights.stem
        for path, correct in ((folder.test_file, merged.test_file), (folder.validation_file, merged.validation_file)):
            tables[correct] |= {rows[row]: samples for row, samples in read_rows(path).items() if row in rows}
        numbers = {plan.provenance.trial for plan in plans}
        for event in folder.log():
            trial = event.get("trial")
            if trial in numbers and isinstance(trial, int):
                merged.append_log(event | {"trial": trial + offset})
            elif trial is None and folder is best:
                merged.append_log(event)
        offset += 1 + max(trial for trial in numbers if trial is not None)
    for path, table in tables.items():
        if len({len(samples) for samples in table.values()}) > 1:
            raise InputError(f"the runs cannot be merged: their {path.stem} splits have different numbers of samples")
        if table:
            record_rows(path, table)


def _copy_weights(source: Path, target: Path) -> None:
    write_whole(target, read_bytes(source, "weights"))


def _measure(merged: RunFolder, task: Task) -> None:
    """What the merged run shows and none of the runs has measured."""
    network = task.fresh_network()
    load_weights(network, merged.full_precision_weights)
    task.model.read_decays(network)
    if merged.settings.signed_input:
        task.model.sign_inputs()
    with limited_threads(task.activations):
        evaluate_test_split(merged, task, network)
        record_validation(merged, task, network)
    merged.write_tables()
    merged.chosen().save(merged.chosen_file)
    write_sweep(merged)
