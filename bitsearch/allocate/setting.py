"""The setting of a search: data, network, costs and device, made from a search space."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bitsearch.allocate.device import find_device, launched_processes
from bitsearch.cost import CostModel, Rules, Target, check_first_layer, check_granularity, trace
from bitsearch.data import Splits, load_data
from bitsearch.models import make_network
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.space import SearchSpace, shipped_spaces

EXAMPLES = 32
"""Training samples that the network is traced with."""


@dataclass(frozen=True)
class Setting:
    """What every trial of a search shares."""

    space: SearchSpace
    splits: Splits
    model: CostModel
    rules: Rules
    device: torch.device
    examples: Tensor
    """A few training inputs, ``[N, ...]``, to trace networks with."""

    @property
    def activations(self) -> int:
        """Input features of all layers, for a process's share of a batch."""
        share = math.ceil(self.space.training.batch_size / launched_processes())
        return sum(layer.inputs for layer in self.model.layers) * share

    def fresh_network(self, seed: int) -> nn.Module:
        """The float network with fresh weights, on the device."""
        return _fresh_network(self.space, self.splits, seed).to(self.device)


def make_setting(space: SearchSpace, *, device: str = "auto", target: Target | None = None) -> Setting:
    """Load the data and trace the network that a space names; InputError if either cannot be had.

    ``target`` stands for the space's own where it has been read already.
    """
    target = target or Target.load(space.target)
    check_granularity(space.allocation.granularity, target)
    found = find_device(device)
    splits = load_data(space.data, space.data_options, split_seed=space.split_seed)
    network = _fresh_network(space, splits, seed=0)
    examples = torch.stack([splits.train[index][0] for index in range(min(EXAMPLES, len(splits.train)))])  # type: ignore[arg-type]
    model = CostModel(trace(network, examples), first_layer_counted=space.first_layer.counted, target=target)
    rules = Rules.make(model, space.choices, space.first_layer)
    check_first_layer(space.first_layer, target)
    return Setting(space, splits, model, rules, found, examples)


def untrained(
    what: str, *, target: str | None, input_shape: tuple[int, ...], classes: int
) -> tuple[nn.Module, CostModel, dict[str, LayerPlan]]:
    """What it takes to look at a network's costs: its float form, its cost model, and its baseline's bits.

    Args:
        what: a search space, by name or ``.toml`` path; or a network, by name or ``package.module:factory``.
        target: hardware target, by name or path; the space's own, or ``generic``, by default.
        input_shape: of one input of a network; a space brings its own, as it does the ``classes``.
        classes: of a network.

    Raises:
        InputError: none of these is there, or the network cannot run the input.
    """
    hardware = None if target is None else Target.load(target)
    if what.endswith(".toml") or what in shipped_spaces():
        space = SearchSpace.load(what)
        setting = make_setting(space, device="cpu", target=hardware)
        bits = setting.rules.nearest(setting.model, space.baseline, granularity="layer", decay=1.0)
        return setting.fresh_network(0), setting.model, bits
    torch.manual_seed(0)
    network = make_network(what, {}, input_shape=input_shape, classes=classes)
    model = CostModel(trace(network, torch.randn(2, *input_shape)), target=hardware)
    return network, model, model.uniform(UniformBits(weight_bits=8, spike_bits=4, time_steps=2), None)


def _fresh_network(space: SearchSpace, splits: Splits, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return make_network(space.network, space.network_options, input_shape=splits.input_shape, classes=splits.classes)
