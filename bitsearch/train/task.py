"""The task of a search: data, network, costs and device, made from a search space."""

import copy
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bitsearch.choices import Span
from bitsearch.cost import (
    AllowedBits,
    CostModel,
    Target,
    check_first_layer,
    check_granularity,
    trace,
    warn_of_own_steps,
)
from bitsearch.cost.declared import check_declared_metric, declare_metrics
from bitsearch.cost.limits import check_limits
from bitsearch.data import Splits, load_data
from bitsearch.data.signs import has_negative_inputs
from bitsearch.errors import InputError
from bitsearch.frameworks.declared import declare_neuron
from bitsearch.launch import launched_world_size
from bitsearch.layers import Converted, conversion, convert
from bitsearch.models import make_network
from bitsearch.models.trained_weights import load_trained_weights
from bitsearch.network_inputs import Inputs
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.registry import find_factory
from bitsearch.space import SearchSpace
from bitsearch.train.device import find_device
from bitsearch.train.distillation import check_features
from bitsearch.train.mixup import check_mixup
from bitsearch.train.optimizer import check_optimizer
from bitsearch.train.output_check import check_outputs
from bitsearch.train.tasks import LearningTask, make_learning_task, targets_of

EXAMPLES = 32
"""Training samples that the network is traced with."""


@dataclass(frozen=True)
class Task:
    """What every trial of a search shares."""

    space: SearchSpace
    splits: Splits
    model: CostModel
    rules: AllowedBits
    device: torch.device
    examples: Inputs
    """A few training inputs, ``[N, ...]`` or ``[T, N, ...]``, to trace networks with."""
    signed_input: bool | None
    """Whether inputs may be below zero, as declared or as all training samples are; None where the examples alone tell,
    since the others are read one by one."""
    learning_task: LearningTask
    """Loss and score."""
    untrained: nn.Module
    """The float network before it is trained, on the CPU: with fresh weights of the task's seed, or those of the
    space's file. It was checked and traced, and stays so."""

    @property
    def activations(self) -> int:
        """Input features of all layers, for a process's share of a batch."""
        share = math.ceil(self.space.training.batch_size / launched_world_size())
        return sum(layer.inputs for layer in self.model.layers) * share

    def fresh_network(self) -> nn.Module:
        """A copy of the untrained network, on the device."""
        return copy.deepcopy(self.untrained).to(self.device)

    def conversion(self) -> list[Converted]:
        """What becomes of the network's layers and neurons, what is left, and why."""
        converted = convert(self.untrained, self.rules.smallest(self.model))
        return conversion(self.untrained, converted, self.model)


@dataclass(frozen=True)
class Objects:
    """A network and data that a Python program has already, in place of those that a space names."""

    network: nn.Module
    """On the CPU, and nobody else's."""
    splits: Splits


def load_task(
    space: SearchSpace,
    *,
    seed: int = 0,
    device: str = "auto",
    target: Target | None = None,
    objects: Objects | None = None,
) -> Task:
    """Load the data, and make and trace the network that a space names.

    Args:
        space: what to search.
        seed: of the network's fresh weights.
        device: as :func:`bitsearch.train.device.find_device` takes it.
        target: stands for the space's own where it has been read already.
        objects: stand for the space's network and data.

    Raises:
        InputError: data, network or weights cannot be had or fail a check, or the target does not allow what the space
            asks for.
    """
    target = target or Target.load(space.target)
    check_granularity(space.allocation.quantizer.granularity, target)
    warn_of_own_steps(space.allocation.quantizer.spike_granularity, target)
    check_first_layer(space.first_layer, target)
    torch_device = find_device(device)
    if objects is None:
        splits = load_data(space.data, space.data_options, split_seed=space.split_seed, targets=targets_of(space.task))
    else:
        splits = objects.splits
    space = _with_frames(space, splits.frames, target)
    declare_metrics(space.metrics or {})
    for name, declaration in (space.neurons or {}).items():
        declare_neuron(find_factory(name, {}, "neuron"), declaration)  # type: ignore[arg-type]  # checked there
    torch.manual_seed(seed)
    if objects is None:
        network = make_network(
            space.network, space.network_options, input_shape=splits.input_shape, classes=splits.classes
        )
    else:
        network = objects.network
    if space.weights is not None:
        load_trained_weights(network, Path(space.weights))
    examples, targets = splits.examples(EXAMPLES)
    learning_task = make_learning_task(space.task, splits.classes, targets.dim() - 1)
    check_outputs(network, splits, space.network, learning_task)
    check_optimizer(network, space.training)
    check_features(network, space.training.distillation)
    check_mixup(space.training.mixup, examples)
    signed = has_negative_inputs(splits.train) if space.signed_input is None else space.signed_input
    layers = trace(
        network,
        examples,
        time_axis=splits.frames is not None,
        include=space.include,
        exclude=space.exclude,
        nonnegative_input=None if signed is None else not signed,
    )
    declared = space.metrics or {}
    model = CostModel(
        layers, first_layer_counted=space.first_layer.counted, target=target, ties=space.ties, declared=declared
    )
    model.choose_neurons(space.neuron)
    rules = AllowedBits.make(model, space.choices, space.first_layer, space.layers)
    model = rules.stepped(model, space.allocation.quantizer.spike_granularity or target.spike_granularity)
    for name in declared:
        check_declared_metric(name, model, rules)
    return Task(space, splits, model, rules, torch_device, examples, signed, learning_task, network)


def _with_frames(space: SearchSpace, frames: int | None, target: Target) -> SearchSpace:
    """The space with as many time steps as the data have frames, in everything that follows them."""
    if frames is None or not space.follow_frames:
        return space.model_copy(update={"follow_frames": None})
    most = min(frames, target.max_time_steps)
    changes: dict[str, Any] = {
        "choices": space.choices.model_copy(update={"time_steps": Span(low=1, high=most)}),
        "baseline": space.baseline.model_copy(update={"time_steps": most}),
        "first_layer": space.first_layer.model_copy(update={"time_steps": None}),
    }
    start = space.allocation.start.model_copy(update={"time_steps": most})
    changes["allocation"] = space.allocation.model_copy(update={"start": start})
    names = {"allocation" if name == "start" else name for name in space.follow_frames}
    warnings.warn(f"the data have {frames} frames: up to {most} time steps a layer, {most} to begin with", stacklevel=2)
    return space.model_copy(update={name: changes[name] for name in names} | {"follow_frames": None})


@dataclass(frozen=True)
class CostPreview:
    """A network whose costs are looked at before anything is trained."""

    network: nn.Module
    """In its float form."""
    model: CostModel
    plan: dict[str, LayerPlan]
    """The baseline's bits."""
    examples: Inputs
    """That it was traced with."""
    rules: AllowedBits | None = None
    """What each layer may get, where a search space says it."""


def cost_preview(
    source: SearchSpace | str,
    *,
    options: Mapping[str, Any],
    bits: UniformBits | None = None,
    target: str | None,
    input_shape: tuple[int, ...],
    classes: int,
    time_axis: bool = False,
) -> CostPreview:
    """What it takes to look at a network's costs.

    Args:
        source: a search space; or a network, by name or ``package.module:factory``.
        options: keywords of a network; a space brings its own.
        bits: of a network; a space brings its baseline.
        target: hardware target, by name or path; the space's own, or ``generic``, by default.
        input_shape: of one input of a network; a space brings its own, as it does the ``classes``.
        classes: of a network.
        time_axis: True if the input of a network starts with a time axis.

    Raises:
        InputError: none of these is there, the network cannot run the input, or exceeds a limit of the target's.
    """
    hardware = None if target is None else Target.load(target)
    if isinstance(source, SearchSpace):
        task = load_task(source, device="cpu", target=hardware)
        plan = task.rules.nearest(task.model, source.baseline, granularity="layer")
        return CostPreview(task.untrained, task.model, plan, task.examples, task.rules)
    torch.manual_seed(0)
    network = make_network(source, options, input_shape=input_shape, classes=classes)
    inputs = torch.randn(2, *input_shape)
    inputs = inputs.transpose(0, 1) if time_axis else inputs
    try:
        layers = trace(network, inputs, time_axis=time_axis)
    except InputError as error:
        raise InputError(f"{error}; it was given random floats; --data gives it samples") from error
    model = CostModel(layers, target=hardware)
    check_limits(model)
    plan = model.uniform(bits or UniformBits(weight_bits=8, spike_bits=4, time_steps=2), None)
    return CostPreview(network, model, plan, inputs)
