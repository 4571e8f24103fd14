import pytest
import torch

from bitsearch.cost import trace
from bitsearch.models import make_network


def blocks(inputs, outputs, count):
    """Parameters of a stage: two 3×3 convolutions a block, batch norms, and a 1×1 shortcut where the width changes."""
    shortcut = inputs * outputs + 2 * outputs if inputs != outputs else 0
    return 9 * outputs * (inputs + (2 * count - 1) * outputs) + 4 * count * outputs + shortcut


def stem(channels, width):
    return 9 * channels * width + 2 * width


@pytest.mark.parametrize(
    ("name", "shape", "classes", "expected", "published", "digit"),
    # A published number is rounded or cut off: to less than one of its last digit.
    [
        (
            "resnet20",
            (3, 32, 32),
            10,
            stem(3, 16) + blocks(16, 16, 3) + blocks(16, 32, 3) + blocks(32, 64, 3) + 650,
            0.27e6,
            0.01e6,
        ),
        (
            "resnet18_cifar",
            (3, 32, 32),
            100,
            stem(3, 64) + blocks(64, 64, 2) + blocks(64, 128, 2) + blocks(128, 256, 2) + blocks(256, 512, 2) + 51_300,
            11.2e6,
            0.1e6,
        ),
        (
            # Zheng et al. 2021; 12.6 M in published tables. The hidden layer has 256 features.
            "resnet19_dvs",
            (10, 2, 48, 48),
            10,
            stem(2, 128) + blocks(128, 128, 3) + blocks(128, 256, 3) + blocks(256, 512, 2) + 513 * 256 + 2570,
            12.6e6,
            0.1e6,
        ),
    ],
)
def test_size_is_the_one_counted_by_hand(name, shape, classes, expected, published, digit):
    network = make_network(name, {}, input_shape=shape, classes=classes)
    found = sum(parameter.numel() for parameter in network.parameters())
    assert found == expected == pytest.approx(published, rel=0, abs=digit)


@pytest.mark.parametrize(
    ("name", "weights", "digit", "layers"),
    # He et al. 2016: 0.27 M parameters for ResNet-20; 11.2 M for ResNet-18 with a 3×3 stem.
    [("resnet20", 0.27e6, 0.01e6, 22), ("resnet18_cifar", 11.2e6, 0.1e6, 21)],
)
def test_size_and_shape_are_the_published_ones(name, weights, digit, layers):
    network = make_network(name, {}, input_shape=(3, 32, 32), classes=10)
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(weights, rel=0, abs=digit)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    found = trace(network, torch.randn(2, 3, 32, 32))
    assert len(found) == layers
    assert not any(layer.fixed_reason for layer in found)
    assert [layer.signed_input for layer in found] == [True] + [False] * (layers - 1)


def test_resnet18_needs_the_published_operations():
    network = make_network("resnet18_cifar", {}, input_shape=(3, 32, 32), classes=10)
    assert sum(layer.macs for layer in trace(network, torch.randn(1, 3, 32, 32))) == pytest.approx(
        556e6, rel=0, abs=1e6
    )


def test_frames_get_logits_of_every_step():
    network = make_network("resnet19_dvs", {"width": 4}, input_shape=(3, 2, 16, 16), classes=6)
    assert network(torch.rand(3, 2, 2, 16, 16)).shape == (3, 2, 6)
    assert network.hidden[0].weight.shape == (8, 16)
