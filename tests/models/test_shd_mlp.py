import torch

from bitsearch.models import make_network


def test_size_and_shape():
    network = make_network("shd_mlp", {}, input_shape=(50, 700), classes=20)
    assert network(torch.rand(50, 3, 700)).shape == (50, 3, 20)
    # Weights, two numbers a feature of batch norm, and the classifier with its biases.
    expected = 700 * 256 + 256 * 256 + 2 * (256 + 256) + 256 * 20 + 20
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_width_and_depth():
    network = make_network("shd_mlp", {"width": 5, "depth": 3}, input_shape=(4, 9), classes=2)
    shapes = [tuple(parameter.shape) for parameter in network.parameters() if parameter.dim() == 2]
    assert shapes == [(5, 9), (5, 5), (5, 5), (2, 5)]
