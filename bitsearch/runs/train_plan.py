"""Training a plan for as long as wanted: from fresh weights, from full precision, or on from its own."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from bitsearch.allocation_settings import Allocation
from bitsearch.errors import InputError
from bitsearch.layers import apply
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.weights import load_weights, save_weights
from bitsearch.plan import DROP, SCORE_DROP, BitPlan
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.interruption import Stop
from bitsearch.runs.progress import Progress
from bitsearch.runs.rebuild import find_task
from bitsearch.score import measured
from bitsearch.train.checkpoint import Checkpoint, fingerprint
from bitsearch.train.evaluate import evaluate
from bitsearch.train.fine_tune import train_at_plan
from bitsearch.train.session import TrainingSession
from bitsearch.train.task import Task
from bitsearch.train.threads import limited_threads
from bitsearch.version import __version__


@dataclass(frozen=True)
class Trained:
    """What :func:`train_plan` wrote."""

    plan: BitPlan
    """With the accuracies and costs measured now."""
    plan_file: Path
    weights_file: Path


def train_plan(
    path: Path,
    *,
    epochs: int | None = None,
    start: Path | None = None,
    space: str | None = None,
    overrides: Sequence[str] = (),
    trust: bool = False,
    output: Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    command: str = "bitsearch.train_plan",
) -> Trained:
    """Train a plan's network, its bits as they are, and measure it on validation and test.

    After every epoch the whole state goes to ``OUTPUT.checkpoint.safetensors``; the same call goes on from there, and
    ends with the weights it would have had undisturbed.

    Args:
        path: plan file; one inside a run folder brings the search space.
        epochs: number of passes; the space's by default.
        start: weights to start from, of this plan or of the network in full precision; fresh ones by default.
        space: as for :func:`bitsearch.runs.rebuild.rebuild`; so are ``overrides`` and ``trust``.
        output: plan file to write, its weights beside it as ``.safetensors``; ``PLAN.trained.json`` by default.
        device: as for :func:`bitsearch.study.run.search`.
        progress: told about every epoch.
        command: kept in the plan.

    Raises:
        InputError: a file that is missing or does not fit the others.

    >>> trained = bitsearch.train_plan(Path("run/plan.json"), epochs=1, output=Path("trained.json"))
    >>> trained.plan.layers == bitsearch.BitPlan.load("run/plan.json").layers
    True
    """
    plan = BitPlan.load(path)
    task, folder = find_task(plan, path, space=space, overrides=overrides, trust=trust, device=device)
    seed = plan.provenance.seed
    epochs = task.space.training.epochs if epochs is None else epochs
    output = output or path.with_name(f"{path.stem}.trained.json")
    progress = progress or Progress()
    progress.score = task.learning_task.score
    stop = Stop(lambda: progress.note("stopping after this epoch; Ctrl-C again stops at once"))
    checkpoint = Checkpoint(
        output.with_suffix(".checkpoint.safetensors"),
        fingerprint(
            layers={name: layer.model_dump(mode="json") for name, layer in plan.layers.items()},
            space=task.space.model_dump(mode="json"),
            seed=seed,
            epochs=epochs,
            start=None if start is None else _digest(start),
        ),
        misfit=_refuse,
        after=stop.check,
    )
    network = _network(plan, task, start)
    progress.trial("train", epochs - checkpoint.done)
    teacher = _teacher(task, folder)
    session = TrainingSession(
        task.splits, task.space.training, progress.epoch, checkpoint, teacher=teacher, task=task.learning_task
    )
    with stop.handle_signals(), limited_threads(task.activations), checkpoint:
        # Weights that were trained through sigmoids are on the grid of their plan: they go on as any others do.
        train_at_plan(network, plan.layers, session, Allocation(), epochs=epochs, seed=seed, phase="train")
        trained = _measured(plan, network, session, command)
    weights = output.with_suffix(".safetensors")
    save_weights(network.network, weights)
    trained.save(output)
    checkpoint.remove()
    return Trained(trained, output, weights)


def _refuse(reason: str) -> None:
    raise InputError(f"{reason}; delete it to start anew, or write to another place with --output")


def _network(plan: BitPlan, task: Task, start: Path | None) -> QuantizedNetwork:
    network = task.fresh_network()
    quantized_start = start is not None and any(name.endswith(".weight_log_step") for name in _tensors(start))
    if start is not None and not quantized_start:
        load_weights(network, start)
    quantized = apply(plan, network)
    if start is not None and quantized_start:
        load_weights(quantized, start)
    return QuantizedNetwork(quantized, task.model, task.rules, task.space.baseline)


def _teacher(task: Task, folder: RunFolder | None) -> nn.Module | None:
    """The full-precision network of the plan's run, if training is to distil it."""
    if folder is None or task.space.training.distillation is None:
        return None
    network = task.fresh_network()
    load_weights(network, folder.full_precision_weights)
    return network


def _tensors(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"no weights at {path}; give the path of a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from error


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"no weights at {path}: {error.strerror or error}") from error


def _measured(plan: BitPlan, network: QuantizedNetwork, session: TrainingSession, command: str) -> BitPlan:
    validation, activity = session.measure(network)
    test = evaluate(network, session.splits.split("test"), session.settings.at_once, task=session.task)
    costs = network.model.costs(network.layer_plans, activity)
    outcomes = []
    for outcome in plan.budget:
        if outcome.metric in (DROP, SCORE_DROP):
            # Of the run's full precision, which is not measured here.
            continue
        achieved = costs.get(outcome.metric, outcome.achieved)
        outcomes.append(outcome.model_copy(update={"achieved": achieved, "met": achieved <= outcome.limit}))
    # Without a trial, nobody takes the weights of the plan's origin for its own.
    origin = {"trial": None, "command": command, "bitsearch": __version__, "torch": torch.__version__}
    scores = measured(session.task.score, validation=validation, test=test)
    return plan.with_measured(scores).model_copy(
        update={
            "costs": costs,
            "budget": tuple(outcomes),
            "provenance": plan.provenance.model_copy(update=origin),
        }
    )
