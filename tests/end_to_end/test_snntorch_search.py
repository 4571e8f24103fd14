"""A network as it is written for snnTorch, on a user's own loaders."""

import pytest
import snntorch
import torch
from bars import parts
from torch import nn
from torch.utils.data import DataLoader

import bitsearch

pytestmark = pytest.mark.training


class Loop(nn.Module):
    """A loop over time steps whose membranes are its own variables, as the tutorials have it."""

    def __init__(self, steps=3):
        super().__init__()
        torch.manual_seed(0)
        self.steps = steps
        self.fc1, self.lif1 = nn.Linear(16, 24), snntorch.Leaky(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(24, 3), snntorch.Leaky(beta=0.9)

    def forward(self, x):
        first, second, membranes = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for _ in range(self.steps):
            spikes, first = self.lif1(self.fc1(x.flatten(1)), first)
            _, second = self.lif2(self.fc2(spikes), second)
            membranes.append(second)
        return torch.stack(membranes)


def test_it_is_searched_measured_again_and_left_as_it_is(tmp_path):
    train, validation, _ = parts()
    network = Loop()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loaders = DataLoader(train, 16, shuffle=True), DataLoader(validation, 16)
    first_layer = ["fc1:weight_bits=4", "fc1:spike_bits=2"]
    result = bitsearch.search(
        network, loaders, "4x", layers=first_layer, trials=1, epochs=1, device="cpu", out=tmp_path / "run"
    )
    assert set(result.best.layers) == {"fc1", "fc2"}
    assert result.best.met
    assert result.evaluate(DataLoader(validation, 7)) == result.best.accuracy.validation
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
