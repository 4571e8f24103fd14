import math

import pytest
import torch
from tolerances import FLOAT64, rounding
from torch import nn
from torch.nn import functional as F

from bitsearch.learnable import quantize
from bitsearch.plan import UniformBits
from bitsearch.quant import uniform

LN2 = math.log(2)
A_FEW = rounding(16)
"""Relative: latents' gradients are rounded to float32, as are the steps and the powers of two in them."""


def learnable(network, images, bits=3, time_steps=2, **options):
    start = UniformBits(weight_bits=bits, spike_bits=bits, time_steps=time_steps)
    return quantize(network, images[:32], start=start, **options)


def record_operands(network):
    """Layer name to (input, mean spikes, quantized weight), the latter two with their gradients kept."""
    seen = {}

    def observer(name):
        def observe(x, spikes, weight):
            spikes.retain_grad()
            weight.retain_grad()
            seen[name] = (x.detach(), spikes, weight)

        return observe

    for name, layer in network.layers.items():
        layer.observer = observer(name)
    return seen


def clipped_derivative(gradient, x, step, bits, *, signed):
    """Σ over clipped elements of g·sign·ln2·s·2^(b − signed), element by element."""
    q_max = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    scaled = x / step
    above, below = scaled > q_max, scaled < (-q_max if signed else 0)
    signs = above.double() - (below.double() if signed else 0.0)
    return float((gradient.double() * signs).sum() * LN2 * step * 2 ** (bits - signed))


def test_every_latent_of_a_whole_network_gets_the_formulas_gradient(network, batch):
    """In float64, where sums that cancel keep their digits; latents and step sizes are float32."""
    images, labels = batch[0].double(), batch[1]
    quantized = learnable(network.double(), images)
    quantized(images)
    with torch.no_grad():
        # Steps somewhat too small, so that every quantizer clips.
        for layer in quantized.layers.values():
            layer.weight_log_step -= 0.5
            layer.spike_log_step -= 0.5
    seen = record_operands(quantized)
    F.cross_entropy(quantized(images), labels).backward()
    assert len(quantized.searched_layers) == 3
    for name, layer in quantized.searched_layers.items():
        x, spikes, weight = seen[name]
        expected = clipped_derivative(weight.grad, layer.weight.detach(), layer.weight_step.item(), 3, signed=True)
        assert expected != 0
        assert layer.weight_latent.grad.item() == pytest.approx(expected, rel=A_FEW)

        membrane = x
        for t in range(2):
            step = layer.spike_step[t].item()
            expected = clipped_derivative(spikes.grad / 2, membrane, step, 3, signed=False)
            assert expected != 0
            assert layer.spike_latent.grad[t].item() == pytest.approx(expected, rel=A_FEW)
            fired = uniform.quantize(membrane, layer.spike_step[t], torch.tensor(3.0), signed=False).detach()
            membrane = x + (membrane - fired)
        assert layer.spike_latent.grad[2:].tolist() == [0, 0]

        expected = -float((spikes.grad.double() * spikes.detach().double()).sum()) / 2
        assert layer.time_latent.grad.item() == pytest.approx(expected, rel=A_FEW)
    # Beyond what the roundings of its own sum come to: the loop ends with the classifier.
    terms = (spikes.grad * spikes.detach()).abs().sum().item()
    assert abs(layer.time_latent.grad.item()) > FLOAT64 * terms


def test_right_after_renewal_bit_latents_have_gradients_that_are_not_zero(network, batch):
    images, labels = batch
    quantized = learnable(network, images, bits=2)
    F.cross_entropy(quantized(images), labels).backward()
    for layer in quantized.searched_layers.values():
        assert layer.weight_latent.grad != 0
        assert (layer.spike_latent.grad[:2] != 0).all()
        assert layer.time_latent.grad != 0


def two_logits(batch_size=8):
    """x → ReLU → logits (w, −w), and an input of ones."""
    first, last = nn.Linear(1, 1, bias=False), nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        first.weight.fill_(1.0)
        last.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    return nn.Sequential(first, nn.ReLU(), last), torch.ones(batch_size, 1)


def clipped_two_logits():
    """The second layer clips both operands: its spikes at 0.75 of 1, its weights at ±0.5 of ±1; T = 2."""
    network, x = two_logits()
    quantized = learnable(network, x, bits=2)
    quantized(x)
    layer = quantized.layers["2"]
    with torch.no_grad():
        layer.spike_log_step.fill_(math.log(0.25))
        layer.weight_log_step.fill_(math.log(0.5))
    return quantized, layer, x


BY_HAND = rounding(64)
"""Relative, in float32: sums over eight samples and two logits, of a product of ten factors."""


@pytest.mark.parametrize("label", [0, 1])
def test_the_sign_is_that_of_what_the_target_wants_of_clipped_values(label):
    quantized, layer, x = clipped_two_logits()
    logits = quantized(x)
    F.cross_entropy(logits, torch.full((8,), label)).backward()
    # Both steps fire 0.75, so the logits are ±0.375. Label 0 wants more of everything, label 1 less.
    assert logits[0].tolist() == pytest.approx([0.375, -0.375])
    probability = 1 / (1 + math.exp(-0.75))
    logit_gradient = probability - (1 - label)
    spike_gradient = 2 * 0.5 * logit_gradient
    weight_gradient = 2 * 0.75 * logit_gradient
    assert layer.spike_latent.grad[:2].tolist() == pytest.approx([spike_gradient / 2 * LN2 * 0.25 * 4] * 2, rel=BY_HAND)
    assert layer.weight_latent.grad.item() == pytest.approx(weight_gradient * LN2 * 0.5 * 2, rel=BY_HAND)
    assert layer.time_latent.grad.item() == pytest.approx(spike_gradient * -0.75 / 2, rel=BY_HAND)
    wanted = -1 if label == 0 else 1
    assert math.copysign(1, layer.spike_latent.grad[0]) == wanted
    assert math.copysign(1, layer.weight_latent.grad) == wanted
    assert math.copysign(1, layer.time_latent.grad) == -wanted


def test_values_inside_the_range_give_the_bit_latents_nothing():
    quantized, layer, x = clipped_two_logits()
    with torch.no_grad():
        layer.spike_log_step.zero_()
        layer.weight_log_step.zero_()
    F.cross_entropy(quantized(x), torch.zeros(8, dtype=torch.long)).backward()
    assert layer.weight_latent.grad == 0
    assert layer.spike_latent.grad.tolist() == [0, 0, 0, 0]
    assert layer.time_latent.grad > 0


def test_without_the_straight_through_gradient_latents_get_none_and_the_output_is_the_same(network, batch):
    images, labels = batch
    quantized = learnable(network, images)
    expected = quantized(images).detach()
    for layer in quantized.layers.values():
        layer.straight_through = False
    logits = quantized(images)
    F.cross_entropy(logits, labels).backward()
    assert torch.equal(logits, expected)
    for layer in quantized.searched_layers.values():
        assert layer.weight_latent.grad is None
        assert layer.spike_latent.grad is None
        assert layer.time_latent.grad is None
        assert layer.weight_log_step.grad is not None


@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_weights_and_steps_are_trained_too(network, batch, granularity):
    images, labels = batch
    quantized = learnable(network, images, granularity=granularity)
    F.cross_entropy(quantized(images), labels).backward()
    for layer in quantized.layers.values():
        assert layer.weight.grad.abs().sum() > 0
        assert (layer.weight_log_step.grad != 0).all()
        assert (layer.spike_log_step.grad[: layer.active_steps] != 0).all()
        assert (layer.spike_log_step.grad[layer.active_steps :] == 0).all()
