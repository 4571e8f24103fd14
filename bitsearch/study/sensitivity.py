"""Sensitivities of a trained network, wherever it comes from: a run folder, a search space, or a Python program."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from bitsearch.allocation.methods.base import make_learnable_copy
from bitsearch.allocation.sensitivity.measure import (
    finest_bits,
    measure_sensitivities,
    sample_count,
    settings_of,
)
from bitsearch.allocation.sensitivity.records import Sensitivities
from bitsearch.errors import InputError
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.weights import load_weights
from bitsearch.registry import OBJECT
from bitsearch.runs.command_line import python_command
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.rebuild import require_trust
from bitsearch.space import SearchSpace
from bitsearch.study import arguments
from bitsearch.study.objects import objects_of, space_of, template_of
from bitsearch.study.runtime import runtime_context
from bitsearch.train.task import Task, load_task
from bitsearch.validation import MAX_SEEDS, shown, whole
from bitsearch.version import __version__


def sensitivity(
    source: nn.Module | SearchSpace | RunFolder | str | Path,
    data: Any = None,
    *,
    space: SearchSpace | str | Path | None = None,
    time_axis: int | None = None,
    task: str | Mapping[str, Any] | None = None,
    target: str | Path | None = None,
    weights: str | Path | None = None,
    samples: int | None = None,
    seed: int = 0,
    device: str = "auto",
    trust: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    command: str | None = None,
) -> Sensitivities:
    """Measure what every layer's weight bits, spike bits and time steps are worth to a trained network.

    One number of one layer is changed at a time, to every value that it may get; everything else stays at the most that
    it may get. Nothing is trained, and nothing written. The samples are of the validation split.

    Args:
        source: a trained network, which is left as it is; a run folder, itself or its path, whose full-precision
            network is measured; or a search space with trained weights, itself, its name or path.
        data: of a network, as for :func:`bitsearch.search`; so are ``space``, ``time_axis`` and ``task``.
        target: hardware target, by name or path, whose widths are measured; the space's own by default.
        weights: file of a search space's trained weights; the space's own by default.
        samples: how many are measured; by default as many as take the time of two training
            epochs, from 32 to 1,024.
        seed: of the samples that are drawn, and of the predictions.
        device: as for :func:`bitsearch.search`.
        trust: run code of the user's own that a run folder names.
        on_progress: told how many of all forward passes are done.
        command: recorded as the command that measured.

    Raises:
        InputError: no trained weights, samples that are not there, or no layer that has a choice.

    >>> network = bitsearch.make_network("digits_cnn", {"width": 2}, input_shape=(1, 8, 8), classes=10)
    >>> data = bitsearch.load_data("digits", {}, split_seed=0)
    >>> sensitivities = bitsearch.sensitivity(network, data, samples=16)
    >>> sorted(sensitivities.layers)
    ['classifier', 'conv2', 'conv3', 'conv4']
    """
    arguments.check_source(source)
    if not isinstance(source, nn.Module | SearchSpace | RunFolder | str | Path):
        raise InputError(f"source is {shown(source)}; give a trained network, a run folder or a search space")
    samples = None if samples is None else whole(samples, "samples", 1)
    seed, device = whole(seed, "seed", 0, MAX_SEEDS - 1), arguments.device_name(device)
    if isinstance(source, nn.Module):
        if data is None:
            raise InputError("a network comes with its data: bitsearch.sensitivity(network, (train, validation))")
        if weights is not None:
            raise InputError("weights are for a search space; load them into the network")
        template = template_of(space)
        template = template.with_task(arguments.task_settings(task, None, template.task))
        objects = objects_of(source, data, time_axis=time_axis, task=template.task)
        named = _with_target(space_of(objects, space, {}, template.task), target)
        loaded = load_task(named, seed=seed, device=device, objects=objects)
        network = loaded.fresh_network()
    else:
        if any(option is not None for option in (data, space, time_axis, task)):
            raise InputError("data, space, time_axis and task are for a network; a space or a run folder has its own")
        loaded, network = _from_files(source, target, weights, seed, device, trust)
    loaded.model.read_decays(network)
    return _measured(loaded, network, samples, seed, on_progress, command)


def _with_target(space: SearchSpace, target: str | Path | None) -> SearchSpace:
    return space if target is None else space.model_copy(update={"target": str(target)})


def _from_files(
    source: SearchSpace | RunFolder | str | Path,
    target: str | Path | None,
    weights: str | Path | None,
    seed: int,
    device: str,
    trust: bool,
) -> tuple[Task, nn.Module]:
    """(task, trained network) of a run folder or a search space."""
    if isinstance(source, RunFolder) or (not isinstance(source, SearchSpace) and Path(source).is_dir()):
        folder = source if isinstance(source, RunFolder) else RunFolder.open(source)
        return _from_run(folder, target, weights, device, trust)
    space = source if isinstance(source, SearchSpace) else SearchSpace.load(source)
    space = _with_target(space, target) if weights is None else _with_target(space.with_weights(Path(weights)), target)
    if space.weights is None:
        raise InputError(
            f"search space {space.name!r} has no trained weights, and nothing is trained here; give their file with "
            "--weights, or the folder of a run of it"
        )
    task = load_task(space, seed=seed, device=device)
    return task, task.fresh_network()


def _from_run(
    folder: RunFolder, target: str | Path | None, weights: str | Path | None, device: str, trust: bool
) -> tuple[Task, nn.Module]:
    settings = folder.settings
    if weights is not None:
        raise InputError(f"{folder.path} is a run, which has weights of its own; give a search space with --weights")
    if settings.space.network.endswith(OBJECT):
        raise InputError(
            f"the network of {folder.path} was an object, {settings.space.network!r}; give it again: "
            "bitsearch.sensitivity(network, data)"
        )
    if not folder.full_precision_weights.is_file():
        raise InputError(f"{folder.path} has no full-precision network yet; run it again to go on")
    if not trust:
        require_trust(settings.space, str(folder.path))
    # What the run began with may have moved; what it has trained is here.
    space = _with_target(settings.space.model_copy(update={"weights": None}), target)
    task = load_task(space, seed=settings.seed, device=device, target=settings.target if target is None else None)
    network = task.fresh_network()
    load_weights(network, folder.full_precision_weights)
    if settings.signed_input:
        task.model.sign_inputs()
    return task, network


def _measured(
    task: Task,
    network: nn.Module,
    samples: int | None,
    seed: int,
    on_progress: Callable[[int, int], None],
    command: str | None,
) -> Sensitivities:
    space, splits = task.space, task.splits
    settings = space.allocation.model_copy(update={"start": finest_bits(task.rules)})
    with runtime_context(task, compiled=False):
        quantized = make_learnable_copy(network, task.model, task.rules, space, settings)
        finest = quantized.layer_plans
        measured = measure_sensitivities(
            quantized,
            splits.validation,
            task.learning_task,
            count=samples or _sample_count(quantized, len(splits.train)),
            batch_size=space.training.at_once,
            batch_axis=splits.batch_axis,
            seed=seed,
            on_progress=on_progress,
        )
    return Sensitivities(
        space=space.name,
        network=space.network,
        score_kind=task.learning_task.score,
        samples=measured.samples,
        seed=seed,
        loss=measured.loss,
        score=measured.score,
        finest=finest,
        widths=measured.widths,
        bitsearch=__version__,
        command=command or python_command(space, "sensitivity", samples=samples, seed=seed),
    )


def _sample_count(quantized: QuantizedNetwork, training_samples: int) -> int:
    time_steps = max(plan.time_steps for plan in quantized.layer_plans.values())
    return sample_count(training_samples, len(settings_of(quantized)), time_steps)
