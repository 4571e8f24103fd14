"""Weights that are computed from others: what they are fixed at, and that the network they came from stays as it is."""

import copy
import warnings

import pytest
import torch
from tolerances import chained
from torch import nn
from torch.nn.utils import parametrizations

import bitsearch
from bitsearch.frameworks.reparametrized import detach_computed_weights, fuse_weights, reparametrized


def old_weight_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(layer)


KINDS = {
    "old weight norm": (old_weight_norm, "weight norm"),
    "old spectral norm": (nn.utils.spectral_norm, "spectral norm"),
    "weight norm": (parametrizations.weight_norm, "parametrization WeightNorm"),
    "spectral norm": (parametrizations.spectral_norm, "parametrization SpectralNorm"),
    "orthogonal": (parametrizations.orthogonal, "parametrization Orthogonal"),
}


def network_of(kind):
    torch.manual_seed(0)
    computed = KINDS[kind][0]
    network = nn.Sequential(computed(nn.Linear(8, 16)), nn.ReLU(), computed(nn.Linear(16, 4)))
    network(torch.rand(2, 8)).sum().backward()
    return network.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_fused_weight_is_the_computed_one(kind):
    network, x = network_of(kind), torch.rand(5, 8)
    expected = network(x)
    assert reparametrized(network[0]) == KINDS[kind][1]
    detach_computed_weights(network)
    fused = copy.deepcopy(network)
    fuse_weights(fused)
    assert type(fused[0]) is nn.Linear
    assert isinstance(fused[0].weight, nn.Parameter)
    assert reparametrized(fused[0]) is None
    assert reparametrized(fused[1]) is None
    torch.testing.assert_close(fused(x), expected, **chained(64))
    # The original still computes it, and learns by it.
    assert reparametrized(network[0]) == KINDS[kind][1]
    assert torch.equal(network(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_such_layers_get_bits_and_the_table_says_what_became_of_them(kind):
    network, x = network_of(kind), torch.rand(32, 8)
    names = {name for name, _ in network.named_parameters()}
    quantized = bitsearch.quantize(network, x)
    assert list(quantized.layers) == ["0", "2"]
    why = f"its weight as {KINDS[kind][1]} computed it"
    assert [row.why for row in quantized.conversion if row.became == "a quantized layer"] == [why] * 2
    assert {name for name, _ in network.named_parameters()} == names
    quantized(x).sum().backward()
    assert quantized.layers["0"].weight.grad.any()
