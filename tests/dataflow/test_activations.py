"""Activations that go below zero: at eight bits a network computes what it computed before."""

import pytest
import torch
from torch import nn

import bitsearch
from bitsearch.choices import FirstLayer
from bitsearch.plan import UniformBits

EIGHT = UniformBits(weight_bits=8, spike_bits=8, time_steps=2)
FIRST = FirstLayer(weight_bits=8, spike_bits=8, time_steps=2)

ACTIVATIONS = {
    name: getattr(nn, name)
    for name in nn.modules.activation.__all__
    if name not in ("MultiheadAttention", "GLU", "Softmax2d", "Softmax", "Softmin", "LogSoftmax", "Threshold")
} | {
    # Small jumps: what is rounded to their other side is moved by them, whatever the bits.
    "Hardshrink": lambda: nn.Hardshrink(0.01),
    "Threshold": lambda: nn.Threshold(-0.3, -0.3),
    "Softmax": lambda: nn.Softmax(1),
    "Softmin": lambda: nn.Softmin(1),
    "LogSoftmax": lambda: nn.LogSoftmax(1),
    "PReLU a channel": lambda: nn.PReLU(16),
    "Hardtanh from zero": lambda: nn.Hardtanh(0.0, 1.0),
    "LeakyReLU mirrored": lambda: nn.LeakyReLU(-0.2),
    "GELU tanh": lambda: nn.GELU("tanh"),
    "Identity": nn.Identity,
}
"""All of torch's, and some of their options."""


class Convolutional(nn.Module):
    """With norms that have seen data, and a head on the mean."""

    def __init__(self, activation):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            activation(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            activation(),
        )
        self.head = nn.Linear(16 * 4, 10)

    def forward(self, x):
        return self.head(nn.functional.adaptive_avg_pool2d(self.body(x), 2).flatten(1))


class Fed(nn.Module):
    """Linear layers one behind the other."""

    def __init__(self, activation):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(12, 16), activation(), nn.Linear(16, 16), activation(), nn.Linear(16, 10, bias=False)
        )

    def forward(self, x):
        return self.layers(x)


def relative_error(network, x):
    """Of the quantized network's logits, in the float network's."""
    with torch.no_grad():
        for _ in range(20):
            network.train()(x)
        network.eval()
        quantized = bitsearch.quantize(network, x[:32], start=EIGHT, first_layer=FIRST).eval()
        quantized(x)
        return ((quantized(x) - network(x)).norm() / network(x).norm()).item()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_convolutional_network_at_eight_bits(name):
    assert relative_error(Convolutional(ACTIVATIONS[name]), torch.randn(128, 3, 8, 8)) < 0.02


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_linear_network_at_eight_bits(name):
    assert relative_error(Fed(ACTIVATIONS[name]), 3 * torch.randn(256, 12)) < 0.02


@pytest.mark.parametrize("kind", [nn.GELU, nn.SiLU, nn.LeakyReLU, nn.Tanh])
def test_what_only_a_trained_network_makes_negative_is_kept(kind):
    """Traced where nothing is below zero, used where much is."""
    torch.manual_seed(0)
    fresh, x = Fed(kind), torch.rand(256, 12)
    for module in fresh.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.constant_(module.weight, 0.1)
            nn.init.constant_(module.bias, 0.5)
    trained = Fed(kind).eval()
    quantized = bitsearch.quantize(fresh, x, start=EIGHT, first_layer=FIRST).eval()
    quantized.network.load_state_dict(trained.state_dict(), strict=False)
    with torch.no_grad():
        quantized(x)
        assert (quantized(x) - trained(x)).norm() < 0.02 * trained(x).norm()
