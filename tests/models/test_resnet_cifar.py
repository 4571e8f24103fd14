import pytest
import torch

from bitsearch.cost import trace
from bitsearch.models import make_network


@pytest.mark.parametrize(
    ("name", "weights", "layers"),
    # He et al. 2016: 0.27 M parameters for ResNet-20; 11.2 M for ResNet-18 with a 3×3 stem.
    [("resnet20", 0.27e6, 22), ("resnet18_cifar", 11.2e6, 21)],
)
def test_size_and_shape_are_the_published_ones(name, weights, layers):
    network = make_network(name, {}, input_shape=(3, 32, 32), classes=10)
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(weights, rel=0.02)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    found = trace(network, torch.randn(2, 3, 32, 32))
    assert len(found) == layers
    assert not any(layer.fixed for layer in found)
    assert [layer.signed_input for layer in found] == [True] + [False] * (layers - 1)


def test_resnet18_needs_the_published_operations():
    network = make_network("resnet18_cifar", {}, input_shape=(3, 32, 32), classes=10)
    assert sum(layer.macs for layer in trace(network, torch.randn(1, 3, 32, 32))) == pytest.approx(556e6, rel=0.01)
