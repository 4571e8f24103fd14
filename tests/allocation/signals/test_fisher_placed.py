"""The Fisher of layers whose neurons fire where the network has them: at the neurons, all of a layer's together."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from bitsearch import quantize
from bitsearch.allocation.signals.fisher_loss import FisherLossModel
from bitsearch.choices import Choices, Span
from bitsearch.plan import UniformBits

FRAMES = 6


class Joined(nn.Module):
    """Two neurons of unlike sizes, concatenated, of which one is pooled."""

    def __init__(self, loop):
        super().__init__()
        torch.manual_seed(0)
        kinds = (nn.Conv2d, nn.MaxPool2d, nn.Linear) if loop else (layer.Conv2d, layer.MaxPool2d, layer.Linear)
        self.a, self.b = kinds[0](1, 2, 3, padding=1), kinds[0](1, 3, 1, stride=2)
        # Of several levels, so that spikes of few bits lose some.
        self.one, self.two, self.pool = neuron.ILIFNode(), neuron.ILIFNode(), kinds[1](2)
        self.c, self.loop = kinds[2](5 * 9, 4), loop
        if not loop:
            functional.set_step_mode(self, "m")

    def step(self, x):
        joined = torch.cat([self.pool(self.one(self.a(x))), self.two(self.b(x))], -3)
        return self.c(joined.flatten(-3))

    def forward(self, x):
        return torch.stack([self.step(frame) for frame in x]) if self.loop else self.step(x)


@pytest.mark.parametrize("loop", [False, True], ids=["multi-step", "loop"])
def test_every_neurons_spikes_have_a_fisher(loop):
    inputs = 8 * torch.rand(FRAMES, 32, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    start = UniformBits(weight_bits=4, spike_bits=3, time_steps=FRAMES if loop else 3)
    choices = Choices(time_steps=Span(low=1, high=FRAMES))
    quantized = quantize(Joined(loop), inputs, start=start, choices=choices, time_axis=True)
    assert quantized.layer_plans["c"].in_place
    assert quantized.layer_plans["c"].neurons == ("one", "two")
    curvature = FisherLossModel(quantized, 0, batch_axis=1)
    curvature.probe(inputs)
    state = curvature.states["c"]
    assert state.inputs.shape == (FRAMES, 32, min(2 * 36 + 3 * 9, 8192 // 32))
    assert state.probes == 1
    assert (state.feature_fisher.diagonal(dim1=0, dim2=1) >= 0).all()
    assert state.feature_fisher.diagonal(dim1=0, dim2=1).sum() > 0
    losses = [curvature.spike_loss("c", (bits,) * FRAMES) for bits in (1, 2, 4, 8)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1] >= 0


def test_a_loop_and_its_multi_step_twin_have_one_fisher():
    inputs = torch.rand(FRAMES, 8, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    fishers, states = [], {}
    for loop in (False, True):
        start = UniformBits(weight_bits=4, spike_bits=3, time_steps=FRAMES)
        quantized = quantize(Joined(loop), inputs, start=start, time_axis=True, choices=Choices(time_steps=(1, FRAMES)))
        quantized = quantized.double()
        with torch.no_grad():
            quantized(inputs.double())
        # In a loop the first neuron's membrane sets a step, elsewhere all currents do.
        quantized.load_state_dict(states.setdefault("multi-step", quantized.state_dict()))
        curvature = FisherLossModel(quantized, 0, batch_axis=1)
        curvature.probe(inputs.double())
        fishers.append(curvature.states["c"])
    assert torch.equal(fishers[0].features, fishers[1].features)
    torch.testing.assert_close(fishers[0].feature_fisher, fishers[1].feature_fisher)
    torch.testing.assert_close(fishers[0].weight_fisher, fishers[1].weight_fisher)
