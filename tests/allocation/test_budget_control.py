import math

import pytest
import torch
from cost_problems import HARDWARE
from tolerances import rounding

from bitsearch.allocation.budget_control import (
    LagrangeMultiplier,
    means_penalty,
    metric_penalty,
    scale_gradients,
    tightened_limit,
)
from bitsearch.allocation.learnable import LearnableNetwork
from bitsearch.allocation.methods.base import make_learnable_copy
from bitsearch.allocation.methods.budget_penalty import BudgetPenaltyCallback
from bitsearch.allocation_settings import Allocation
from bitsearch.cost import SpikeStatistics
from bitsearch.learnable import quantize
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.train.evaluate import measure_activity


def learnable(network, images):
    start = UniformBits(weight_bits=4, spike_bits=3, time_steps=2)
    return quantize(network, images[:32], start=start, target=HARDWARE)


def changed(plan, kind, latent_index, difference):
    if kind == "weight":
        return plan.model_copy(update={"weight_bits": plan.weight_bits + difference})
    if kind == "time":
        steps = plan.time_steps + difference
        return plan.model_copy(update={"time_steps": steps, "spike_bits": plan.spike_bits[:1] * steps})
    bits = list(plan.spike_bits)
    bits[latent_index] += difference
    return plan.model_copy(update={"spike_bits": tuple(bits)})


COST = 2 * rounding(64)
"""Relative, of a differentiable cost and of its slopes: some sixty operations on positive numbers in float32."""


@pytest.mark.parametrize(
    "metric", ["bit_budget", "bit_budget_mac", "s_ace", "ns_ace", "synops", "weight_memory", "energy", "latency"]
)
def test_the_metric_penaltys_gradient_is_the_priced_finite_difference_of_the_cost(network, batch, metric):
    quantized = learnable(network, batch[0])
    model, plans = quantized.model, quantized.layer_plans
    activity = measure_activity(quantized, batch[0]) if model.needs_activity(metric) else None
    cost = model.cost(metric, plans, activity)
    prices = (0.5, 2.0, 3.0)
    penalty = metric_penalty(model, metric, cost / 3, quantized.allocation, prices, activity)
    penalty.backward()
    assert penalty.item() == pytest.approx(math.log(3), rel=COST)

    def difference(name, kind, latent_index=0):
        # Every metric is affine in each single number, so whole steps to either side are exact.
        up, down = (
            model.cost(metric, plans | {name: changed(plans[name], kind, latent_index, by)}, activity) for by in (1, -1)
        )
        return (up - down) / 2 / cost

    for name, layer in quantized.searched_layers.items():
        expected = 0.5 * difference(name, "weight")
        assert expected > 0 or metric == "synops"
        assert layer.weight_latent.grad.item() == pytest.approx(expected, rel=COST)
        # A unit of one of two steps' bits is half a unit of their mean.
        expected = [2.0 * difference(name, "spike", latent_index) for latent_index in (0, 1)]
        if metric in ("weight_memory", "synops"):
            assert expected == [0, 0]
            assert not layer.spike_latent.grad.any()
        else:
            assert min(expected) > 0
            assert layer.spike_latent.grad.tolist() == pytest.approx([*expected, 0, 0], rel=COST)
        assert layer.time_latent.grad.item() == pytest.approx(3.0 * difference(name, "time"), rel=COST)


def test_a_price_changes_the_gradient_but_not_the_value():
    allocation = tuple(torch.tensor([3.0, 4.0], requires_grad=True) for _ in range(3))
    values = scale_gradients(allocation, (0.25, 1.0, 4.0))
    sum(value.sum() for value in values).backward()
    for value, latent, price in zip(values, allocation, (0.25, 1.0, 4.0), strict=True):
        assert torch.equal(value, latent)
        assert latent.grad.tolist() == [price, price]


def test_the_means_penalty_by_hand(model):
    weights = torch.tensor([8.0, 4.0, 2.0, 1.0], requires_grad=True)
    spikes = torch.tensor([8.0, 3.0, 2.0, 4.0], requires_grad=True)
    times = torch.tensor([1.0, 2.0, 2.0, 1.0], requires_grad=True)
    penalty = means_penalty(model, (2.0, 5.0, 1.0), (weights, spikes, times), (0.04, 0.02, 0.01))
    penalty.backward()
    # Weights 36, 144, 144, 640; inputs 64, 64, 64, 64.
    mean_weights = (36 * 8 + 144 * 4 + 144 * 2 + 640) / 964
    expected = 0.04 * abs(mean_weights - 2) + 0.02 * abs(17 / 4 - 5) + 0.01 * abs(6 / 4 - 1)
    assert penalty.item() == pytest.approx(expected, rel=COST)
    # The mean weight bits are below their target and rise, the spike bits too, the time steps fall.
    assert mean_weights < 2
    assert weights.grad.tolist() == pytest.approx([-0.04 * count / 964 for count in (36, 144, 144, 640)], rel=COST)
    assert spikes.grad.tolist() == pytest.approx([-0.02 / 4] * 4)
    assert times.grad.tolist() == pytest.approx([0.01 / 4] * 4)


def test_the_controller_tightens_above_the_limit_and_relaxes_below():
    controller = LagrangeMultiplier(start=0.02, gain=0.1)
    assert float(controller.weight) == pytest.approx(0.02)
    controller.update(torch.tensor(0.5))
    assert float(controller.weight) == pytest.approx(0.02 * math.exp(0.05), rel=COST)
    controller.update(torch.tensor(-0.5))
    controller.update(torch.tensor(-0.5))
    assert float(controller.weight) == pytest.approx(0.02 * math.exp(-0.05), rel=COST)
    before = float(controller.weight)
    controller.update(torch.tensor(0.0))
    assert float(controller.weight) == before


def test_one_update_moves_the_weight_by_no_more_than_its_gain():
    for violation in (1e6, math.inf):
        controller = LagrangeMultiplier(start=1.0, gain=0.1)
        controller.update(torch.tensor(violation))
        assert float(controller.weight) == pytest.approx(math.exp(0.1))
        controller.update(torch.tensor(-violation))
        controller.update(torch.tensor(-violation))
        assert float(controller.weight) == pytest.approx(math.exp(-0.1))


@pytest.mark.parametrize("violation", [3.0, -3.0])
def test_the_weight_stays_bounded(violation):
    controller = LagrangeMultiplier()
    for _ in range(1000):
        controller.update(torch.tensor(violation))
    # e^16 magnifies the exponent's rounding sixteen times.
    assert math.exp(-16) * (1 - rounding(32)) <= float(controller.weight) <= math.exp(8) * (1 + rounding(32))
    far = float(controller.weight)
    controller.update(torch.tensor(-violation))
    assert (float(controller.weight) < far) == (violation > 0)


def test_the_controller_finds_the_weight_that_balances_a_resistance():
    controller = LagrangeMultiplier()
    for _ in range(300):
        controller.update(torch.tensor(0.5 - float(controller.weight)))
    # A step takes 0.15·0.5 of what is left, down to a unit or less of the logarithm's float32.
    assert float(controller.weight) == pytest.approx(0.5, rel=rounding(2) / 0.075 + 0.925**200)


def test_limits_fall_in_equal_ratios_and_end_at_the_budget_exactly():
    limits = [tightened_limit(32.0, 2.0, step / 4) for step in range(5)]
    assert limits == pytest.approx([32.0, 16.0, 8.0, 4.0, 2.0])
    assert limits[-1] == 2.0
    assert tightened_limit(1.0, 2.0, 0.5) == 2.0


def test_the_allocation_is_rounded_with_straight_through_gradients(network, batch):
    quantized = learnable(network, batch[0])
    layer = next(iter(quantized.searched_layers.values()))
    with torch.no_grad():
        layer.weight_latent.fill_(4.3)
        layer.spike_latent[:2] = torch.tensor([3.2, 2.4])
    quantized(batch[0])
    weights, spikes, times = quantized.allocation
    assert weights.tolist() == [8, 4, 4, 4]
    assert spikes.tolist() == [8, 2.5, 3, 3]
    assert times.tolist() == [1, 2, 2, 2]
    (weights[1] + 10 * spikes[1] + 100 * times[1] + weights[0]).backward()
    assert layer.weight_latent.grad == 1
    assert layer.spike_latent.grad.tolist() == [5, 5, 0, 0]
    assert layer.time_latent.grad == 100


def test_the_penalty_of_a_network_pulls_bits_down_above_the_limit(network, batch):
    quantized = learnable(network, batch[0])
    cost = quantized.model.cost("bit_budget", quantized.layer_plans)
    weights = []
    for _ in range(3):
        quantized.penalty("8x", steps=1).backward()
        weights.append(next(iter(quantized._penalties.values())).controllers[0].weight)
    assert cost > 8
    assert weights == sorted(weights)
    assert len(set(weights)) == 3
    for layer in quantized.searched_layers.values():
        assert layer.weight_latent.grad > 0
        assert (layer.spike_latent.grad[:2] > 0).all()
        assert layer.time_latent.grad > 0


def test_each_budget_of_a_network_has_a_controller_of_its_own(network, batch):
    quantized = learnable(network, batch[0])
    for _ in range(3):
        (quantized.penalty("8x", steps=3) + quantized.penalty("memory=1MiB", steps=3)).backward()
    tight, loose = (penalty.controllers[0] for penalty in quantized._penalties.values())
    assert tight.weight > 1e-2 > loose.weight
    before = [layer.weight_latent.grad.clone() for layer in quantized.searched_layers.values()]
    quantized.penalty("memory=1MiB", steps=3).backward()
    for layer, gradient in zip(quantized.searched_layers.values(), before, strict=True):
        assert layer.weight_latent.grad > gradient


def test_the_penalty_follows_the_firing_rates(network, batch):
    quantized = learnable(network, batch[0])
    budget = quantized.budget("ns_ace=5000")
    for rate in (0.5, 0.25):
        quantized.activity = SpikeStatistics(dict.fromkeys(quantized.layers, rate))
        cost = rate * quantized.model.cost("s_ace", quantized.layer_plans)
        penalty = quantized.penalty(budget, steps=1)
        weight = quantized._penalties[budget, 1, (1.0, 1.0, 1.0)].controllers[0].weight
        assert (penalty / weight).item() == pytest.approx(math.log(cost / 5000), rel=COST, abs=COST)


def test_a_fixed_layer_enters_the_penalty_without_gradient(network, batch):
    quantized = learnable(network, batch[0])
    quantized.fix(quantized.layer_plans)
    # The target has membranes of a width, whose unit is one step size.
    hardware = {"spike_granularity": "layer", "membrane_bits": HARDWARE.membrane_bits}
    plan = LayerPlan(weight_bits=4, spike_bits=(3, 3), time_steps=2, neurons=(), **hardware)
    assert list(quantized.layer_plans.values())[1:] == [plan] * 3
    assert not quantized.penalty("8x", steps=1).requires_grad


def test_the_networks_own_penalty_is_that_of_a_run(network, model, rules, space):
    """Schedule, prices and controller: the README's loop is drawn to its budget as ``bitsearch run`` draws its bits."""
    settings = Allocation(weight_price=0.5, spike_price=2.0, time_price=3.0)
    options = {"start": settings.start, "baseline": space.baseline, "granularity": "layer", "decay": None}
    by_hand = LearnableNetwork.learnable(network, model, rules=rules, **options)
    by_run = make_learnable_copy(network, model, rules, space, settings)
    pull = BudgetPenaltyCallback(by_run, [by_hand.budget("8x")], settings, steps=6)
    for _ in range(8):
        penalties = [by_hand.penalty("8x", steps=6, prices=(0.5, 2.0, 3.0)), pull.penalty()]
        assert penalties[0].item() == penalties[1].item()
        for penalty in penalties:
            penalty.backward()
        for name, layer in by_hand.searched_layers.items():
            other = by_run.searched_layers[name]
            for kind in ("weight_latent", "spike_latent", "time_latent"):
                assert torch.equal(getattr(layer, kind).grad, getattr(other, kind).grad)
