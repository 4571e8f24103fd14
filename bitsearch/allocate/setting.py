"""The setting of a search: data, network, costs and device, made from a search space."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bitsearch.allocate.device import find_device
from bitsearch.cost import CostModel, trace
from bitsearch.data import Splits, load_data
from bitsearch.models import make_network
from bitsearch.space import SearchSpace

EXAMPLES = 32
"""Training samples that the network is traced with."""


@dataclass(frozen=True)
class Setting:
    """What every trial of a search shares."""

    space: SearchSpace
    splits: Splits
    model: CostModel
    device: torch.device
    examples: Tensor
    """A few training inputs, ``[N, ...]``, to trace networks with."""

    @property
    def activations(self) -> int:
        """Input features of all layers, for a whole batch."""
        return sum(layer.inputs for layer in self.model.layers) * self.space.training.batch_size

    def fresh_network(self, seed: int) -> nn.Module:
        """The float network with fresh weights, on the device."""
        return _fresh_network(self.space, self.splits, seed).to(self.device)


def make_setting(space: SearchSpace, *, device: str = "auto") -> Setting:
    """Load the data and trace the network that a space names; InputError if either cannot be had."""
    found = find_device(device)
    splits = load_data(space.data, space.data_options, split_seed=space.split_seed)
    network = _fresh_network(space, splits, seed=0)
    examples = torch.stack([splits.train[index][0] for index in range(min(EXAMPLES, len(splits.train)))])  # type: ignore[arg-type]
    model = CostModel(trace(network, examples), first_layer_counted=space.first_layer.counted)
    return Setting(space, splits, model, found, examples)


def _fresh_network(space: SearchSpace, splits: Splits, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return make_network(space.network, space.network_options, input_shape=splits.input_shape, classes=splits.classes)
