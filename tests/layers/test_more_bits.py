"""More spike bits than before, right after conversion: the same at a network's own time steps, no worse at fewer."""

import math
from itertools import pairwise

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

import bitsearch
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.data import load_data

NODES = {
    "IF": lambda: neuron.IFNode(surrogate_function=surrogate.ATan()),
    "LIF": lambda: neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan()),
    "PLIF": lambda: neuron.ParametricLIFNode(init_tau=2.0, surrogate_function=surrogate.ATan()),
}
POOLS = {"largest": layer.MaxPool2d, "mean": layer.AvgPool2d}
each_kind = pytest.mark.parametrize("kind", NODES)
each_pool = pytest.mark.parametrize("pool", POOLS)


class Network(nn.Module):
    """Two convolutions that repeat an image for as many frames, with a hard reset and pooling behind the neurons."""

    def __init__(self, kind, pool, frames):
        super().__init__()
        torch.manual_seed(0)
        self.frames = frames
        parts = []
        for inputs, outputs in ((1, 8), (8, 12)):
            conv = layer.Conv2d(inputs, outputs, 3, padding=1)
            parts += [conv, layer.BatchNorm2d(outputs), NODES[kind](), POOLS[pool](2)]
        self.net = nn.Sequential(*parts, layer.Flatten(), layer.Linear(48, 10))
        functional.set_step_mode(self.net, "m")

    def forward(self, x):
        return self.net(x.unsqueeze(0).repeat(self.frames, 1, 1, 1, 1)).mean(0)


@torch.no_grad()
def logits(network, x):
    functional.reset_net(network)
    result = network(x)
    functional.reset_net(network)
    return result


def converted(network, images, spike_bits, time_steps):
    bits = bitsearch.UniformBits(weight_bits=8, spike_bits=spike_bits, time_steps=time_steps)
    quantized = bitsearch.quantize(
        network,
        images,
        start=bits,
        baseline=bits,
        choices=Choices(time_steps=Span(low=1, high=8)),
        first_layer=FirstLayer(weight_bits=8, spike_bits=8),
    ).eval()
    logits(quantized, images)
    return quantized


@each_kind
@each_pool
@pytest.mark.parametrize("frames", [1, 4, 8])
def test_at_a_networks_own_time_steps_more_bits_change_nothing(kind, pool, frames):
    network, images = Network(kind, pool, frames).train(), torch.rand(64, 1, 8, 8)
    logits(network, images)
    network.eval()
    results = [logits(converted(network, images, bits, frames), images) for bits in (1, 2, 8)]
    assert results[0].std() > 0
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.fixture(scope="module")
def digits():
    splits = load_data("digits", {}, split_seed=0)
    return splits.train[:], splits.validation[:]


def trained(kind, pool, frames, images, labels):
    network = Network(kind, pool, frames)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(5):
        for part in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[part]), labels[part]).backward()
            optimizer.step()
            functional.reset_net(network)
    return network.eval()


@pytest.mark.training
@each_kind
@each_pool
@pytest.mark.parametrize("frames", [4, pytest.param(8, marks=pytest.mark.exhaustive)])
def test_at_fewer_time_steps_more_bits_are_never_worse_beyond_the_noise_of_the_samples(kind, pool, frames, digits):
    (train_images, train_labels), (images, labels) = digits
    network = trained(kind, pool, frames, train_images, train_labels)
    assert (logits(network, images).argmax(1) == labels).float().mean() > 0.8
    for time_steps in (1, frames // 2):
        right = [
            logits(converted(network, train_images[:256], bits, time_steps), images).argmax(1) == labels
            for bits in (1, 2, 3, 8)
        ]
        for fewer, more in pairwise(right):
            # The noise of a difference over n images that one of the two alone gets right (McNemar 1947).
            lost, won = int((fewer & ~more).sum()), int((more & ~fewer).sum())
            assert lost - won <= 2 * math.sqrt(lost + won)
