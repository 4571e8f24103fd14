"""Rebuilding a plan's network from its files, and measuring it again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from bitsearch.data.class_counts import class_counts
from bitsearch.errors import InputError
from bitsearch.layers import apply
from bitsearch.layers.clipped_input import count_clipped
from bitsearch.layers.weights import load_weights
from bitsearch.plan import BitPlan
from bitsearch.registry import is_import_path
from bitsearch.runs.folder import RunFolder
from bitsearch.space import SearchSpace, shipped_spaces
from bitsearch.train.evaluate import evaluate
from bitsearch.train.task import Task, load_task
from bitsearch.train.threads import limited_threads


def rebuild(
    path: Path,
    *,
    weights: Path | None = None,
    space: str | None = None,
    overrides: Sequence[str] = (),
    trust: bool = False,
    device: str = "auto",
) -> tuple[nn.Module, Task]:
    """A plan's network with its weights, and the task it was trained for.

    Args:
        path: plan file; one inside a run folder brings weights and search space.
        weights: safetensors file, where the plan is elsewhere.
        space: name or path of the plan's search space, or the run folder that has it, where the plan is elsewhere.
        overrides: settings of the search space, such as ``data_options.root=DIR`` where the data have moved.
        trust: import a network or data that is no shipped one, but named as ``package.module:factory``.
        device: as for :func:`bitsearch.study.run.search`.

    Raises:
        InputError: a file that is missing or does not fit the others, or code to run that is not trusted.

    >>> network, task = bitsearch.rebuild(Path("run/plan.json"))
    >>> network(task.examples).shape[1]
    10
    """
    plan = BitPlan.load(path)
    return restore(plan, path, weights=weights, space=space, overrides=overrides, trust=trust, device=device)


def restore(
    plan: BitPlan,
    path: Path,
    *,
    weights: Path | None = None,
    space: str | None = None,
    overrides: Sequence[str] = (),
    trust: bool = False,
    device: str = "auto",
) -> tuple[nn.Module, Task]:
    """:func:`rebuild` for a plan that has been read from ``path``, itself or inside of another file."""
    task, folder = find_task(plan, path, space=space, overrides=overrides, trust=trust, device=device)
    if weights is None:
        if folder is None or plan.provenance.trial is None:
            raise InputError(f"{path} is not inside a run folder; give its weights too, a .safetensors file")
        weights = folder.weights_file(plan.provenance.trial)
    network = apply(plan, task.fresh_network())
    load_weights(network, weights)
    count_clipped(
        network, [layer.name for layer in task.model.layers if layer.follows_input and layer.name in plan.layers]
    )
    return network, task


def find_task(
    plan: BitPlan,
    path: Path,
    *,
    space: str | None = None,
    overrides: Sequence[str] = (),
    trust: bool = False,
    device: str = "auto",
) -> tuple[Task, RunFolder | None]:
    """The task of a plan read from ``path``, and the run folder that it lies in, if any; as :func:`rebuild`."""
    folder = run_folder_of(path)
    if space is not None:
        search_space = RunFolder.open(space).settings.space if Path(space).is_dir() else SearchSpace.load(space)
    elif folder is not None:
        search_space = folder.settings.space
    elif plan.space in shipped_spaces():
        search_space = SearchSpace.load(plan.space)
    else:
        raise InputError(
            f"{path} lies in no run folder, and its search space {plan.space!r} is none that comes with bitsearch; "
            "give the folder of its run, or a .toml file, with --space"
        )
    if search_space.name != plan.space or search_space.network != plan.network:
        raise InputError(
            f"{path} is for space {plan.space!r} and network {plan.network!r}, "
            f"not {search_space.name!r} and {search_space.network!r}; give its own space with --space"
        )
    # The plan's own weights follow; those that its run began with may have moved.
    search_space = search_space.override(overrides).model_copy(update={"weights": None})
    if not trust:
        require_trust(search_space, str(path))
    target = folder.settings.target if folder is not None else None
    return load_task(search_space, seed=plan.provenance.seed, device=device, target=target), folder


def evaluate_plan(
    path: Path,
    *,
    weights: Path | None = None,
    space: str | None = None,
    overrides: Sequence[str] = (),
    trust: bool = False,
    split: str,
    device: str = "auto",
) -> float:
    """Accuracy of a plan's network on ``train``, ``validation`` or ``test``; otherwise as :func:`rebuild`.

    >>> 0.0 <= bitsearch.evaluate_plan(Path("run/plan.json"), split="validation") <= 1.0
    True
    """
    network, task = rebuild(path, weights=weights, space=space, overrides=overrides, trust=trust, device=device)
    return measure(network, task, split).score


@dataclass(frozen=True)
class Measurement:
    """A score, and the samples that it was measured on."""

    score: float
    samples: int
    classes: dict[str, int]
    """Samples of each class; empty of targets that are no class numbers."""


def measure(network: nn.Module, task: Task, split: str) -> Measurement:
    """Measure a rebuilt network on a split of its task's data; InputError if there is no such split."""
    with limited_threads(task.activations):
        samples, at_once = task.splits.split(split), task.space.training.at_once
        score = evaluate(network, samples, at_once, task=task.learning_task)
    classes = class_counts(task.splits, split) if task.learning_task.has_classes else {}
    return Measurement(score, len(samples), classes)


def require_trust(space: SearchSpace, source: str) -> None:
    """InputError if a space that comes from ``source`` names code that is no part of bitsearch."""
    references = [
        ("network", space.network),
        ("data", space.data),
        ("optimizer", space.training.optimizer),
        *(("neuron", name) for name in space.neurons or ()),
        ("loss", space.task.loss or ""),
        ("metric", space.task.metric or ""),
        *(("cost metric", metric.function) for metric in (space.metrics or {}).values()),
    ]
    imports = [f"{part} {name!r}" for part, name in references if is_import_path(name)]
    if imports:
        raise InputError(
            f"{source} runs code that is not bitsearch's: {', '.join(imports)}; if you trust it, add --trust"
        )


def run_folder_of(path: Path) -> RunFolder | None:
    """The run folder that a file lies in, itself or in a folder of it."""
    for parent in path.absolute().parents[:2]:
        if (parent / "run.toml").is_file():
            return RunFolder.open(parent)
    return None
