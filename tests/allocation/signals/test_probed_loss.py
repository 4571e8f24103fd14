import copy
import math

import pytest
import torch
from tolerances import FLOAT64, rounding
from torch import nn
from torch.nn import functional as F

from bitsearch.allocation.signals import probed_loss as probing
from bitsearch.allocation.signals.fisher_loss import FisherLossModel
from bitsearch.allocation.signals.latent_gradient import LatentGradientCallback
from bitsearch.allocation.signals.probed_loss import CalibratedFisher
from bitsearch.allocation_settings import Allocation
from bitsearch.choices import Choices, Span
from bitsearch.learnable import quantize
from bitsearch.plan import UniformBits


def probed(network, images, bits=3, time_steps=2, **options):
    start = UniformBits(weight_bits=bits, spike_bits=bits, time_steps=time_steps)
    quantized = quantize(network, images[:32], start=start, **options).train()
    curvature = CalibratedFisher(quantized, seed=0)
    curvature.probe(images)
    return quantized, curvature


def test_a_probe_measures_what_the_changed_network_predicts_otherwise(network, batch):
    images, _ = batch
    quantized, curvature = probed(network, images)
    name = list(quantized.searched_layers)[1]
    plan = quantized.layer_plans[name]
    less = plan.model_copy(update={"weight_bits": plan.weight_bits - 1})
    changed = copy.deepcopy(quantized)
    changed.layers[name].set_bits(less)
    with torch.no_grad():
        p, q = (F.softmax(each(images).double(), -1) for each in (copy.deepcopy(quantized), changed))
    expected = float((p * (p / q).log()).sum(-1).mean())
    # A mean of logarithms in float32, of ten classes each: as far off as the largest of them at a handful of roundings.
    off = rounding(16) * float(p.log().abs().max())
    assert expected > 1000 * off
    assert curvature.divergence({name: less}, images) == pytest.approx(expected, rel=0, abs=off)


def test_predictions_meet_what_was_probed_and_time_steps_share_the_spikes_factor(network, batch):
    images, _ = batch
    quantized, curvature = probed(network, images)
    plain = FisherLossModel(quantized, seed=0)
    plain.probe(images)
    names = list(quantized.searched_layers)
    for _ in range(2 * len(names)):
        curvature.correct(images)
    assert len(curvature.corrections) == 2 * len(names)
    for name in names:
        plan = quantized.layer_plans[name]
        less = plan.model_copy(update={"weight_bits": plan.weight_bits - 1})
        predicted = curvature.weight_loss(name, less.weight_bits) - curvature.weight_loss(name, plan.weight_bits)
        assert predicted == pytest.approx(curvature.divergence({name: less}, images), rel=FLOAT64)
        less = plan.model_copy(update={"spike_bits": tuple(bits - 1 for bits in plan.spike_bits)})
        predicted = curvature.spike_loss(name, less.spike_bits) - curvature.spike_loss(name, plan.spike_bits)
        assert predicted == pytest.approx(curvature.divergence({name: less}, images), rel=FLOAT64)
        factors = [curvature.spike_loss(name, bits) / plain.spike_loss(name, bits) for bits in ((3,), (3, 3), (5, 2))]
        assert factors == pytest.approx([math.exp(curvature.corrections[name, "spikes"])] * 3, rel=FLOAT64)


def test_nothing_of_the_network_is_changed(network, batch):
    images, _ = batch
    network = nn.Sequential(*network[:-1], nn.Dropout(0.5), network[-1])
    quantized, curvature = probed(network, images)
    with torch.no_grad():
        quantized(images)
    before = {name: value.clone() for name, value in quantized.state_dict().items()}
    plans, generator = quantized.layer_plans, torch.get_rng_state()
    renewals = [layer.renewals for layer in quantized.layers.values()]
    for layer in quantized.layers.values():
        layer.renew_weights = layer.renew_spikes = False
    for _ in range(6):
        curvature.correct(images)
    assert curvature.corrections
    assert quantized.layer_plans == plans
    assert torch.equal(torch.get_rng_state(), generator)
    assert [layer.renewals for layer in quantized.layers.values()] == renewals
    assert not any(layer.renew_weights or layer.renew_spikes for layer in quantized.layers.values())
    for name, value in quantized.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_an_error_in_the_network_leaves_it_as_it_was(network, batch):
    images, _ = batch
    quantized, curvature = probed(network, images)
    plans = quantized.layer_plans
    calls = []

    def second_time(*_):
        calls.append(None)
        if len(calls) == 2:
            raise RuntimeError("boom")

    quantized.network[-1].register_forward_hook(second_time)
    with pytest.raises(RuntimeError, match="boom"):
        curvature.correct(images)
    assert quantized.layer_plans == plans


def test_a_layer_at_its_least_is_probed_upwards_and_one_without_a_choice_not_at_all(network, batch):
    images, _ = batch
    choices = Choices(weight_bits=Span(low=1, high=3), spike_bits=Span(low=3, high=3), time_steps=Span(low=2, high=2))
    quantized, curvature = probed(network, images, choices=choices)
    for layer in quantized.searched_layers.values():
        layer.set_bits(layer.layer_plan.model_copy(update={"weight_bits": 1}))
    for _ in range(2 * len(quantized.searched_layers)):
        curvature.correct(images)
    assert set(curvature.corrections) == {(name, "weights") for name in quantized.searched_layers}


def test_corrections_are_smoothed_and_bounded(network, batch, monkeypatch):
    images, _ = batch
    quantized, curvature = probed(network, images)
    turns = 2 * len(quantized.searched_layers)
    name = next(iter(quantized.searched_layers))
    plan = quantized.layer_plans[name]
    predicted = curvature.weight_loss(name, plan.weight_bits - 1) - curvature.weight_loss(name, plan.weight_bits)
    for found, expected in ((2.0, math.log(2)), (8.0, 2 * math.log(2)), (1e9, (2 * math.log(2) + math.log(32)) / 2)):
        monkeypatch.setattr(curvature, "divergence", lambda *_, found=found: found * predicted)
        curvature.correct(images)
        assert curvature.corrections[name, "weights"] == pytest.approx(expected, rel=FLOAT64)
        for _ in range(turns - 1):
            curvature.correct(images)
    before = curvature.corrections[name, "weights"]
    monkeypatch.setattr(curvature, "divergence", lambda *_: probing.LEAST / 2)
    curvature.correct(images)
    assert curvature.corrections[name, "weights"] == before


def test_probed_slopes_steer_a_search(network, batch):
    images, _ = batch
    quantized, _ = probed(network, images)
    signal = LatentGradientCallback(quantized, Allocation(estimator="probed", probe_every=1), seed=0)
    for _ in range(4 * len(quantized.searched_layers)):
        signal.before_batch(images)
        signal.after_forward(quantized(images))
    assert len(signal.curvature.corrections) == 2 * len(quantized.searched_layers)
    signal.penalty().backward()
    slopes = [float(layer.weight_latent.grad) for layer in quantized.searched_layers.values()]
    assert all(slope < 0 for slope in slopes)
    for (name, layer), slope in zip(quantized.searched_layers.items(), slopes, strict=True):
        loss = signal.curvature.weight_loss
        bits = layer.layer_plan.weight_bits
        assert slope == pytest.approx(loss(name, bits + 1) - loss(name, bits))


def test_layers_with_one_weight_are_probed_together_and_left_as_they_were(network, batch):
    images, _ = batch
    network[6].weight = network[3].weight
    quantized, curvature = probed(network, images)
    with torch.no_grad():
        quantized(images)
    before = {name: value.clone() for name, value in quantized.state_dict().items()}
    names = list(quantized.searched_layers)
    for _ in range(2 * len(names)):
        curvature.correct(images)
    assert set(curvature.corrections) == {(name, "spikes") for name in names} | {("3", "weights"), ("10", "weights")}
    less = {name: quantized.layer_plans[name].model_copy(update={"weight_bits": 2}) for name in ("3", "6")}
    curvature.turn = 0
    curvature.corrections.clear()
    curvature.correct(images)
    predicted = sum(curvature.weight_loss(name, 2) - curvature.weight_loss(name, 3) for name in less)
    assert predicted == pytest.approx(curvature.divergence(less, images), rel=FLOAT64)
    assert all(torch.equal(value, before[name]) for name, value in quantized.state_dict().items())
