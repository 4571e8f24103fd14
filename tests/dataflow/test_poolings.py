import pytest
import torch
from spikingjelly.activation_based import layer
from torch import nn
from torch.nn import functional

from bitsearch.dataflow.recording import record


class Pooled(nn.Module):
    """A convolution, and a pooling as a module or as a function."""

    def __init__(self, pool, channels=2):
        super().__init__()
        self.conv = nn.Conv2d(1, channels, 3, padding=1)
        self.pool = pool if isinstance(pool, nn.Module) else None
        self.function = pool

    def forward(self, x):
        return self.function(self.conv(x)) if self.pool is None else self.pool(self.conv(x))


def kinds(network, x=None):
    """By module path."""
    names = {module: name for name, module in network.named_modules()}
    recording = record(network, torch.rand(2, 1, 8, 8) if x is None else x)
    return {names[module]: kind for module, kind in recording.poolings.items()}


@pytest.mark.parametrize(
    ("pool", "kind"),
    [
        (nn.AvgPool2d(2), "average"),
        (nn.AdaptiveAvgPool2d(1), "average"),
        (nn.MaxPool2d(2), "max"),
        (nn.AdaptiveMaxPool2d(2), "max"),
        (nn.FractionalMaxPool2d(2, output_ratio=0.5), "max"),
        (nn.LPPool2d(1, 2), "sum"),
        (nn.LPPool2d(2, 2), "power"),
        (layer.AvgPool2d(2), "average"),
        (layer.MaxPool2d(2), "max"),
    ],
)
def test_a_module_that_pools_is_named_with_its_kind(pool, kind):
    assert kinds(Pooled(pool)) == {"pool": kind}


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda x: functional.avg_pool2d(x, 2), "average"),
        (lambda x: torch.nn.functional.adaptive_avg_pool2d(x, 2), "average"),
        (lambda x: functional.max_pool2d(x, 2), "max"),
        (lambda x: torch.max_pool2d(x, 2), "max"),
        (lambda x: functional.max_pool2d(x, 2, return_indices=True)[0], "max"),
        (lambda x: functional.lp_pool2d(x, norm_type=1, kernel_size=2), "sum"),
    ],
)
def test_a_function_is_its_modules(function, kind):
    assert kinds(Pooled(function)) == {"": kind}


def test_other_axes_and_sequences_pool_too():
    sequence = nn.Sequential(nn.Conv1d(1, 2, 3), nn.AvgPool1d(2))
    assert kinds(sequence, torch.rand(2, 1, 9)) == {"1": "average"}
    stepped = nn.Sequential(layer.Conv2d(1, 2, 3, step_mode="m"), layer.MaxPool2d(2, step_mode="m"))
    assert kinds(stepped, torch.rand(3, 2, 1, 8, 8)) == {"1": "max"}


@pytest.mark.parametrize("function", [lambda x: x.mean((2, 3)), lambda x: x.amax(1), nn.Identity()])
def test_what_does_not_pool_is_not_named(function):
    assert kinds(Pooled(function)) == {}
