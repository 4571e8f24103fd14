"""The task of a search: data, network, costs and device, made from a search space."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.cost import AllowedBits, CostModel, Target, check_first_layer, check_granularity, trace
from bitsearch.data import Splits, batches, load_data
from bitsearch.launch import world_size
from bitsearch.layers import Converted, conversion, convert
from bitsearch.models import make_network
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.space import SearchSpace
from bitsearch.train.device import find_device
from bitsearch.train.output_check import check_outputs

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
    examples: Tensor
    """A few training inputs, ``[N, ...]`` or ``[T, N, ...]``, to trace networks with."""

    @property
    def activations(self) -> int:
        """Input features of all layers, for a process's share of a batch."""
        share = math.ceil(self.space.training.batch_size / world_size())
        return sum(layer.inputs for layer in self.model.layers) * share

    def fresh_network(self, seed: int) -> nn.Module:
        """The float network with fresh weights, on the device."""
        return _fresh_network(self.space, self.splits, seed).to(self.device)

    def conversion(self) -> list[Converted]:
        """What becomes of the network's layers and neurons, what is left, and why."""
        network = _fresh_network(self.space, self.splits, 0)
        unquantized = {layer.name: layer.fixed or "" for layer in self.model.unquantized}
        return conversion(network, convert(network, self.rules.smallest(self.model)), unquantized)


def load_task(space: SearchSpace, *, device: str = "auto", target: Target | None = None) -> Task:
    """Load the data and trace the network that a space names; InputError if either cannot be had or fails a check.

    ``target`` stands for the space's own where it has been read already.
    """
    target = target or Target.load(space.target)
    check_granularity(space.allocation.quantizer.granularity, target)
    found = find_device(device)
    splits = load_data(space.data, space.data_options, split_seed=space.split_seed)
    network = _fresh_network(space, splits, seed=0)
    check_outputs(network, splits, space.network)
    examples, _ = next(iter(batches(splits.train, EXAMPLES)))
    layers = trace(network, examples, time_axis=splits.frames is not None, include=space.include, exclude=space.exclude)
    model = CostModel(layers, first_layer_counted=space.first_layer.counted, target=target)
    rules = AllowedBits.make(model, space.choices, space.first_layer)
    check_first_layer(space.first_layer, target)
    return Task(space, splits, model, rules, found, examples)


def cost_preview(
    what: SearchSpace | str,
    *,
    options: Mapping[str, Any],
    target: str | None,
    input_shape: tuple[int, ...],
    classes: int,
    time_axis: bool = False,
) -> tuple[nn.Module, CostModel, dict[str, LayerPlan]]:
    """What it takes to look at a network's costs: its float form, its cost model, and its baseline's bits.

    Args:
        what: a search space; or a network, by name or ``package.module:factory``.
        options: keywords of a network; a space brings its own.
        target: hardware target, by name or path; the space's own, or ``generic``, by default.
        input_shape: of one input of a network; a space brings its own, as it does the ``classes``.
        classes: of a network.
        time_axis: True if the input of a network starts with a time axis.

    Raises:
        InputError: none of these is there, or the network cannot run the input.
    """
    hardware = None if target is None else Target.load(target)
    if isinstance(what, SearchSpace):
        task = load_task(what, device="cpu", target=hardware)
        bits = task.rules.nearest(task.model, what.baseline, granularity="layer")
        return task.fresh_network(0), task.model, bits
    torch.manual_seed(0)
    network = make_network(what, options, input_shape=input_shape, classes=classes)
    inputs = torch.randn(2, *input_shape)
    layers = trace(network, inputs.transpose(0, 1) if time_axis else inputs, time_axis=time_axis)
    model = CostModel(layers, target=hardware)
    return network, model, model.uniform(UniformBits(weight_bits=8, spike_bits=4, time_steps=2), None)


def _fresh_network(space: SearchSpace, splits: Splits, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return make_network(space.network, space.network_options, input_shape=splits.input_shape, classes=splits.classes)
