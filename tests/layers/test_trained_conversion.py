"""Trained spiking networks right after their conversion: as accurate as they were, and no worse with more bits."""

import copy
from itertools import pairwise

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

import bitsearch
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.data import load_data
from bitsearch.plan import UniformBits
from bitsearch.quant.uniform import quantize

pytestmark = pytest.mark.training
T = 4
CHOICES = Choices(time_steps=Span(low=1, high=T))


class Network(nn.Module):
    """Two convolutions that repeat an image for T frames, with pooling behind their neurons or strides instead."""

    def __init__(self, node, pooled):
        super().__init__()
        pool = layer.MaxPool2d(2) if pooled else nn.Identity()
        self.net = nn.Sequential(
            layer.Conv2d(1, 16, 3, padding=1),
            node(),
            pool,
            layer.Conv2d(16, 24, 3, stride=1 if pooled else 2, padding=1),
            node(),
            layer.Flatten(),
            layer.Linear(24 * 16, 10),
        )
        functional.set_step_mode(self.net, "m")

    def forward(self, x):
        return self.net(x.unsqueeze(0).repeat(T, 1, 1, 1, 1))


def logits(network, x):
    functional.reset_net(network)
    with torch.no_grad():
        result = network(x).mean(0)
    functional.reset_net(network)
    return result


NODES = {
    "IF, hard reset": lambda: neuron.IFNode(surrogate_function=surrogate.ATan()),
    "LIF, soft reset": lambda: neuron.LIFNode(
        tau=2.0, decay_input=False, v_reset=None, surrogate_function=surrogate.ATan()
    ),
}


@pytest.fixture(scope="module")
def digits():
    splits = load_data("digits", {}, split_seed=0)
    return splits.train[:], splits.validation[:]


@pytest.fixture(scope="module", params=[(kind, pooled) for kind in NODES for pooled in (False, True)], ids=str)
def trained(request, digits):
    kind, pooled = request.param
    torch.manual_seed(0)
    network = Network(NODES[kind], pooled)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    (images, labels), _ = digits
    for _ in range(6):
        for part in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[part]).mean(0), labels[part]).backward()
            optimizer.step()
            functional.reset_net(network)
    return network.eval()


def converted(network, images, spike_bits, time_steps):
    bits = UniformBits(weight_bits=8, spike_bits=spike_bits, time_steps=time_steps)
    first = FirstLayer(weight_bits=8, spike_bits=8)
    quantized = bitsearch.quantize(
        network, images[:256], start=bits, baseline=bits, choices=CHOICES, first_layer=first
    ).eval()
    with torch.no_grad():
        quantized(images[:256])
    return quantized


def test_a_network_at_its_own_setting_is_as_accurate_as_it_was_whatever_its_spike_bits(trained, digits):
    (train_images, _), (images, labels) = digits
    before = logits(trained, images)
    results = [logits(converted(trained, train_images, bits, T), images) for bits in (1, 2, 4, 8)]
    assert all(torch.equal(result, results[0]) for result in results)
    right, still_right = (int((each.argmax(1) == labels).sum()) for each in (before, results[0]))
    assert right > 0.9 * len(labels)
    assert right - still_right <= 0.005 * len(labels)


def test_all_that_a_network_loses_at_its_own_setting_is_the_rounding_of_its_weights_and_images(trained, digits):
    (train_images, _), (images, _) = digits
    quantized = converted(trained, train_images, 1, T)
    rounded = copy.deepcopy(trained)
    with torch.no_grad():
        for path, part in quantized.layers.items():
            rounded.get_submodule(path).weight.copy_(part.quantized_weight())
    first = quantized.layers["net.0"]
    on_their_grid = quantize(images, first.spike_step[0], first.spike_bits[0], signed=first.signed_input)
    expected, result = logits(rounded, on_their_grid), logits(quantized, images)
    # A current that is within a rounding of the threshold may fire in the one and not in the other.
    same = (result - expected).abs().amax(1) < 1e-5
    assert same.float().mean() > 0.99
    assert int((result.argmax(1) != expected.argmax(1)).sum()) <= 1


def test_a_second_bit_makes_up_for_half_the_time_steps(trained, digits):
    (train_images, _), (images, _) = digits
    before = logits(trained, images)
    one, two = ((logits(converted(trained, train_images, bits, T // 2), images) - before) for bits in (1, 2))
    # Where a neuron leaks, the network's does so twice between two of these steps, whatever the bits.
    leak = 1.05 if isinstance(trained.net[1], neuron.LIFNode) else 1.0
    assert two.square().mean() < leak * one.square().mean()


def test_more_bits_are_never_further_from_the_network_at_half_its_time_steps(trained, digits):
    (train_images, _), (images, _) = digits
    before = logits(trained, images)
    errors = [
        float((logits(converted(trained, train_images, bits, T // 2), images) - before).square().mean())
        for bits in (1, 2, 3, 8)
    ]
    # Every layer's step serves its own spikes best, which is not quite what serves the logits best.
    assert all(after <= 1.05 * one for one, after in pairwise(errors)), errors


def test_at_one_time_step_more_bits_send_what_is_nearer_and_are_as_accurate(trained, digits):
    (train_images, _), (images, labels) = digits
    sent = []
    hook = trained.net[1].register_forward_hook(lambda _, inputs, output: sent.append(output.mean(0)))
    logits(trained, images)
    hook.remove()
    errors, right = [], []
    for bits in (1, 2, 3, 8):
        quantized = converted(trained, train_images, bits, 1)
        fired = []
        quantized.layers["net.3"].observer = lambda _, spikes, weight, fired=fired: fired.append(spikes)
        right.append(int((logits(quantized, images).argmax(1) == labels).sum()))
        # A layer with one time step gets the spikes of all frames as one.
        errors.append(float((fired[0].reshape(-1, *sent[0].shape).mean(0) - sent[0]).square().mean()))
    # Its steps were set by other images.
    assert all(after <= 1.01 * one for one, after in pairwise(errors)), errors
    # In the logits, errors of few bits may cancel, as tests/quant/test_firing.py shows by hand.
    assert all(after >= one - 0.005 * len(labels) for one, after in pairwise(right)), right
