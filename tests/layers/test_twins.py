"""A network in a loop and the same in multi-step mode, on simulated recordings of digits: one network in two forms."""

import copy
from types import SimpleNamespace

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from tolerances import FLOAT64
from torch import nn

import bitsearch
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.data import batches, load_data
from bitsearch.layers.weights import load_weights, save_weights
from bitsearch.plan import UniformBits

FRAMES = 8
FIRST = FirstLayer(weight_bits=8, spike_bits=8, time_steps=FRAMES)
CHOICES = Choices(time_steps=Span(low=FRAMES, high=FRAMES))


@pytest.fixture(scope="module")
def recordings():
    """``[F, N, 2, 12, 12]``."""
    splits = load_data("digits_events", {"frames": FRAMES}, split_seed=0)
    return next(iter(batches(splits.train, 24)))[0].double()


def leaky():
    return neuron.LIFNode(tau=3.0, decay_input=False)


class Loop(nn.Module):
    """Single-step layers, a frame a call; a skip reads both neurons."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm, self.fire1 = layer.Conv2d(2, 6, 3, padding=1), layer.BatchNorm2d(6), leaky()
        self.pool = layer.MaxPool2d(3)
        self.conv2, self.fire2 = layer.Conv2d(6, 6, 3, padding=1), leaky()
        self.flat, self.readout = layer.Flatten(), layer.Linear(6 * 4 * 4, 10)

    def frame(self, x):
        first = self.pool(self.fire1(self.norm(self.conv1(x))))
        return self.readout(self.flat(first + self.fire2(self.conv2(first))))

    def forward(self, x):
        return torch.stack([self.frame(frame) for frame in x])


class Whole(Loop):
    """All frames at once."""

    def __init__(self):
        super().__init__()
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.frame(x)


@pytest.fixture(scope="module")
def twins():
    """Of the same weights, whose neurons fire."""
    torch.manual_seed(0)
    loop, whole = Loop().double().eval(), Whole().double().eval()
    loop.conv1.weight.data *= 4
    loop.conv2.weight.data *= 4
    whole.load_state_dict(loop.state_dict())
    return SimpleNamespace(loop=loop, whole=whole)


def quantized(network, x, **bits):
    """At uniform bits; its steps are set by ``x``."""
    start = UniformBits(time_steps=FRAMES, **bits)
    made = bitsearch.quantize(
        copy.deepcopy(network), x, time_axis=True, start=start, choices=CHOICES, first_layer=FIRST
    ).eval()
    with torch.no_grad():
        made(x)
    return made


def alike(plans):
    """Plans but for how a layer is called."""
    return {name: plan.model_copy(update={"loop": None}) for name, plan in plans.items()}


@pytest.mark.floats
@pytest.mark.parametrize("weight_bits", [2, 8])
@pytest.mark.parametrize("spike_bits", [1, 2, 8])
def test_twins_have_one_plan_and_the_same_logits(twins, recordings, weight_bits, spike_bits):
    bits = {"weight_bits": weight_bits, "spike_bits": spike_bits}
    loop, whole = (quantized(network, recordings, **bits) for network in (twins.loop, twins.whole))
    assert alike(loop.layer_plans) == alike(whole.layer_plans)
    with torch.no_grad():
        logits = loop(recordings)
        assert logits.std() > 0.1
        torch.testing.assert_close(logits, whole(recordings), rtol=FLOAT64, atol=FLOAT64)


@pytest.mark.floats
@pytest.mark.parametrize("source", ["loop", "whole"])
def test_either_twin_takes_the_others_state(twins, recordings, source, tmp_path):
    target = {"loop": "whole", "whole": "loop"}[source]
    first = quantized(getattr(twins, source), recordings, weight_bits=4, spike_bits=2)
    second = quantized(getattr(twins, target), recordings, weight_bits=4, spike_bits=2)
    with torch.no_grad():
        for parameter in first.network.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        save_weights(first.network, tmp_path / "state.safetensors")
        load_weights(second.network, tmp_path / "state.safetensors")
        torch.testing.assert_close(first(recordings), second(recordings), rtol=FLOAT64, atol=FLOAT64)


@pytest.mark.floats
def test_twins_make_the_same_first_training_step(twins, recordings):
    gradients = []
    for network in (twins.loop, twins.whole):
        made = quantized(network, recordings, weight_bits=4, spike_bits=2).train()
        made(recordings).mean(0).square().mean().backward()
        gradients.append({name: p.grad for name, p in made.named_parameters() if name.endswith("weight")})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(gradient.abs().max() > 0 for gradient in gradients[0].values())
