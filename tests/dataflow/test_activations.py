"""Activations that go below zero: at eight bits a network computes what it computed before."""

import pytest
import torch
from torch import nn

import bitsearch
from bitsearch.choices import FirstLayer
from bitsearch.plan import UniformBits


class Gated(nn.GLU):
    """As many features as before."""

    def forward(self, x):
        return nn.functional.glu(torch.cat([x, -x], 1), 1)


class Softmax2d(nn.Softmax2d):
    """Over the features of vectors, too."""

    def forward(self, x):
        return super().forward(x if x.dim() == 4 else x[..., None, None]).reshape(x.shape)


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
    "GLU": lambda: Gated(),
    "Softmax2d": lambda: Softmax2d(),
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


F = nn.functional
FUNCTIONS = {
    **{name: getattr(F, name) for name in ("relu", "relu6", "elu", "selu", "celu", "leaky_relu", "rrelu", "gelu")},
    **{name: getattr(F, name) for name in ("logsigmoid", "tanhshrink", "softsign", "softplus", "softshrink", "tanh")},
    **{name: getattr(F, name) for name in ("sigmoid", "hardsigmoid", "silu", "hardswish", "mish", "hardtanh")},
    **{f"torch.{name}": getattr(torch, name) for name in ("relu", "selu", "celu", "rrelu", "tanh", "sigmoid", "erf")},
    **{f"{name}_": getattr(F, f"{name}_") for name in ("relu", "elu", "selu", "celu", "leaky_relu", "hardtanh")},
    **{f"Tensor.{name}": getattr(torch.Tensor, name) for name in ("relu", "tanh", "sigmoid", "relu_", "tanh_", "abs")},
    "hardshrink": lambda x: F.hardshrink(x, 0.01),
    "threshold": lambda x: F.threshold(x, -0.3, -0.3),
    "threshold_": lambda x: F.threshold_(x, -0.3, -0.3),
    "prelu": lambda x: F.prelu(x, torch.tensor([0.2])),
    "prelu mirrored": lambda x: F.prelu(x, torch.tensor([-0.2])),
    "softmax": lambda x: F.softmax(x, 1),
    "softmin": lambda x: F.softmin(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "glu": lambda x: F.glu(torch.cat([x, -x], 1)),
    "elu mirrored": lambda x: F.elu(x, -0.5),
    "clamp": lambda x: x.clamp(-0.5, 1.5),
    "clamp from zero": lambda x: torch.clamp(x, min=0),
    "maximum": lambda x: torch.maximum(x, torch.zeros(())),
    "x·sigmoid(x)": lambda x: x * x.sigmoid(),
    "ReLU less a half": lambda x: x.relu() - 0.5,
    "softplus less ln 2": lambda x: F.softplus(x) - 0.6931,
    "square": lambda x: x.square() / 4,
    "cube": lambda x: x.clamp(-1.5, 1.5) ** 3,
}
"""Those of torch.nn.functional and of tensors; in place, where torch has them so."""


class Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations_as_functions_at_eight_bits(name):
    assert relative_error(Fed(lambda: Applied(FUNCTIONS[name])), 3 * torch.randn(256, 12)) < 0.02


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
