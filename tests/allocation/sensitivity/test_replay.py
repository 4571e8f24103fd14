"""A pass that begins where something has changed gives what a whole one gives, to the last bit."""

import pytest
import torch
from order_of_pulses import FRAMES, MultiStep, StepByStep, recordings
from torch import nn

import bitsearch
from bitsearch.allocation.sensitivity.replay import RecordedPass
from bitsearch.allocation.signals.changed_bits import changed_bits
from bitsearch.choices import FirstLayer
from bitsearch.frameworks.neurons import reset_states
from bitsearch.layers.quantized import QuantizedLayer


class Residual(nn.Module):
    """Two branches, work in place, and a layer that runs twice."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = (nn.Conv2d(i, 4, 3, padding=1) for i in (1, 4, 4))
        self.norm, self.relu, self.head = nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x):
        x = self.relu(self.stem(x))
        y = self.a(x)
        y += x
        y = self.relu(self.norm(y))
        y = self.relu(self.b(y)) + y
        return self.head(self.relu(self.b(y)).mean((2, 3)))


def of_images(net):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(4, 1, 6, 6, generator=generator)
    return bitsearch.quantize(net, inputs), inputs


def of_recordings(form):
    inputs = recordings(6)[0].transpose(0, 1)
    options = {"time_axis": True, "first_layer": FirstLayer(time_steps=FRAMES)}
    return bitsearch.quantize(form(12), inputs, **options), inputs


NETWORKS = {
    "residual": lambda: of_images(Residual()),
    "multi-step": lambda: of_recordings(MultiStep),
    "step by step": lambda: of_recordings(StepByStep),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_it_gives_what_the_whole_pass_gives(make):
    torch.manual_seed(0)
    network, inputs = make()
    network.eval()

    def run():
        reset_states(network)
        with torch.no_grad():
            return network(inputs)

    record = RecordedPass(network)
    with record.recording():
        before = run()
    with record.replaying([]):
        assert torch.equal(run(), before)
    assert torch.equal(run(), before)
    for name, layer in network.searched_layers.items():
        with changed_bits(network, {name: layer.layer_plan.with_bits(1, layer.layer_plan.spike_bits)}):
            with record.replaying([layer]):
                replayed = run()
            assert torch.equal(replayed, run())
            assert not torch.equal(replayed, before)


def test_what_ran_before_is_not_computed_again(monkeypatch):
    torch.manual_seed(0)
    network, inputs = of_images(Residual())
    network.eval()
    record = RecordedPass(network)
    with record.recording(), torch.no_grad():
        network(inputs)
    ran = []
    whole = QuantizedLayer._whole
    monkeypatch.setattr(QuantizedLayer, "_whole", lambda layer, x: ran.append(layer) or whole(layer, x))
    names = {id(layer): name for name, layer in network.layers.items()}
    expected = {"a": ["a", "b", "b", "head"], "b": ["b", "b", "head"], "head": ["head"]}
    for name, later in expected.items():
        ran.clear()
        with record.replaying([network.layers[name]]), torch.no_grad():
            network(inputs)
        # A layer that runs at several places keeps a state, and is computed each time.
        assert [names[id(layer)] for layer in ran if names[id(layer)] != "b" or name != "head"] == later
