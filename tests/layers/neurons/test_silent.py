"""A layer that nothing above zero comes to is named, in the table, in training and where it is packed."""

import warnings

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from torch.utils.data import TensorDataset

import bitsearch
from bitsearch.data import Splits
from bitsearch.deploy.lower.trained_layers import trained_layers
from bitsearch.layers.neurons.silent import silent_layers
from bitsearch.train.loop import train
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training

LINE = "^nothing above zero has come to layer b, which no training changes; lower the thresholds in front, or start"


class Net(nn.Module):
    """Of neurons in multi-step mode; the first one's currents are below zero where it is ``silent``."""

    def __init__(self, silent):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = layer.Linear(4, 6), layer.Linear(6, 6), layer.Linear(6, 3)
        self.one, self.two = neuron.IFNode(0.2), neuron.IFNode(0.2)
        functional.set_step_mode(self, "m")
        if silent:
            nn.init.zeros_(self.a.weight)
            nn.init.constant_(self.a.bias, -1.0)
            nn.init.constant_(self.b.bias, 0.5)

    def forward(self, x):
        return self.c(self.two(self.b(self.one(self.a(x)))))


def quantized(silent, x):
    network = bitsearch.quantize(Net(silent), x, time_axis=True)
    network(x)
    return network


@pytest.fixture
def x():
    return torch.rand(5, 8, 4, generator=torch.Generator().manual_seed(0))


def test_the_table_names_it(x):
    rows = {row.name: row.why for row in quantized(True, x).conversion}
    assert rows["b"] == "all that it got from the examples was zero"
    assert (rows["a"], rows["c"]) == ("", "")
    assert not any("zero" in row.why for row in quantized(False, x).conversion if row.became == "a quantized layer")


def test_it_is_known_once_it_has_run(x):
    fresh = bitsearch.quantize(Net(True), x, time_axis=True)
    assert silent_layers(fresh.network) == []
    assert silent_layers(quantized(True, x).network) == ["b"]
    assert silent_layers(quantized(False, x).network) == []


@pytest.mark.parametrize("silent", [True, False])
def test_training_names_it_after_its_first_epoch(x, silent):
    part = TensorDataset(x.transpose(0, 1).contiguous(), torch.arange(8) % 3)
    parts = [TensorDataset(*part.tensors) for _ in range(3)]
    splits = Splits(*parts, input_shape=(5, 4), classes=3, frames=5)
    network = bitsearch.quantize(Net(silent), x, time_axis=True)
    session = TrainingSession(splits, Training(batch_size=8, learning_rate=1e-6))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(network, session, epochs=2, seed=0, phase="search")
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == int(silent)
    assert all(message.startswith(LINE[1:]) for message in messages)


def test_it_is_packed_with_a_line(x, tmp_path):
    network = quantized(True, x).eval()
    network.fix(network.layer_plans)
    expected = network(x).mean(0)
    with pytest.warns(UserWarning, match=LINE):
        bitsearch.pack(network.network, x, tmp_path / "packed")
    replay = bitsearch.read(tmp_path / "packed").replay()
    outputs = replay(x).double() * 2.0 ** -replay.analysis.values[-1].fraction / 5
    torch.testing.assert_close(outputs, expected.double(), rtol=0, atol=1e-3)


def test_a_time_step_without_spikes_takes_the_size_of_the_others(x):
    x[:2] = 0
    network = quantized(False, x).eval()
    network.fix({name: plan.with_bits(4, (4,) * 5) for name, plan in network.layer_plans.items()})
    expected = network(x)
    first = network.layers["a"]
    assert first.spike_step_bits.tolist() == [0, 0, 4, 4, 4]
    trained_layers(network.network)
    assert first.spike_step[:2].tolist() == [first.spike_step[2:].max().item()] * 2
    assert torch.equal(network(x), expected)
    # What comes to them later sets them anew.
    network(torch.rand(5, 8, 4))
    assert first.spike_step_bits.tolist() == [4] * 5


class Skipping(nn.Module):
    """Its last layer has the weight of the one before, and runs for large inputs alone."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.c.weight = self.b.weight

    def forward(self, x):
        y = self.b(self.a(x).relu())
        return self.c(y.relu()) if x.sum() > 100 else y


def test_a_layer_that_has_not_run_is_not_called_silent_for_the_weight_it_shares():
    torch.manual_seed(0)
    x = torch.rand(8, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shared = bitsearch.quantize(Skipping(), 100 * x)
    shared.train()(x)
    assert shared.layers["c"].weight_step_bits
    assert silent_layers(shared.network) == []
    shared(torch.full((8, 4), 100.0))
    assert "c" not in silent_layers(shared.network)
