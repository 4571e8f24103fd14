import math

import pytest
import torch
from tolerances import rounding

from bitsearch.allocation.methods.base import make_learnable_copy
from bitsearch.allocation.methods.budget_penalty import BudgetPenaltyCallback, Renewal
from bitsearch.allocation_settings import Allocation
from bitsearch.cost import Budget, SpikeStatistics
from bitsearch.plan import UniformBits

COST = 2 * rounding(64)
"""Relative, of a differentiable cost and of its slopes: some sixty operations on positive numbers in float32."""


def test_the_limit_is_tightened_over_the_first_half_of_the_search(network, model, rules, space):
    quantized = make_learnable_copy(network, model, rules, space, Allocation())
    start = model.cost("bit_budget", quantized.layer_plans)
    budget = Budget("bit_budget", "", start / 4)
    pull = BudgetPenaltyCallback(quantized, [budget], Allocation(), steps=8)
    violations = []
    for _ in range(8):
        value = pull.penalty().item()
        violations.append(value / pull.budget_penalty.controllers[0].weight)
    # The bits do not move here, so what is violated is the limit's own way down to a quarter.
    expected = [math.log(4) * share for share in (0.25, 0.5, 0.75, 1, 1, 1, 1, 1)]
    assert violations == pytest.approx(expected, rel=COST)


def test_a_limit_above_the_start_pushes_nothing_up(network, model, rules, space):
    quantized = make_learnable_copy(network, model, rules, space, Allocation())
    budget = Budget("s_ace", "", 4 * model.cost("s_ace", quantized.layer_plans))
    pull = BudgetPenaltyCallback(quantized, [budget], Allocation(), steps=8)
    for _ in range(8):
        value = pull.penalty().item()
        assert value / pull.budget_penalty.controllers[0].weight == pytest.approx(math.log(1 / 4), rel=COST)
    assert pull.budget_penalty.controllers[0].weight < 1e-2


@pytest.mark.parametrize("regularizer", ["metric", "means"])
def test_every_budget_pulls_by_its_own_weight(network, model, rules, space, regularizer):
    settings = Allocation(regularizer=regularizer, weight_price=2.0)
    quantized = make_learnable_copy(network, model, rules, space, settings)
    plans = quantized.layer_plans
    costs = {metric: model.cost(metric, plans) for metric in ("s_ace", "weight_memory")}
    # Memory is far above its limit and gains weight, operations are far below and lose it.
    budgets = [Budget("s_ace", "", 9 * costs["s_ace"]), Budget("weight_memory", "", 0.6 * costs["weight_memory"])]
    pull = BudgetPenaltyCallback(quantized, budgets, settings, steps=4)
    for _ in range(5):
        quantized.zero_grad()
        pull.penalty().backward()
    operations, memory = (float(controller.weight) for controller in pull.budget_penalty.controllers)
    assert memory > 1e-2 > operations > 0
    layer = quantized.searched_layers["3"]
    geometry = next(entry for entry in model.layers if entry.name == "3")
    if regularizer == "means":
        inputs = sum(entry.inputs for entry in model.layers)
        assert layer.time_latent.grad.item() == pytest.approx(memory * geometry.inputs / inputs, rel=COST)
        return
    # w4 s4 T2: what a bit changes of MACs·T·w·s, and of the bytes; spikes are in the operations alone.
    share = geometry.macs * 4 * 2 / costs["s_ace"]
    expected = operations * share + memory * geometry.weights / 8 / costs["weight_memory"]
    assert layer.weight_latent.grad.item() == pytest.approx(2.0 * expected, rel=COST)
    assert layer.spike_latent.grad.tolist() == pytest.approx([operations * share / 2] * 2 + [0, 0], rel=COST)
    expected = operations * geometry.macs * 16 / costs["s_ace"] + memory * 4 / costs["weight_memory"]
    assert layer.time_latent.grad.item() == pytest.approx(expected, rel=COST)


def test_the_record_of_an_epoch_holds_every_budget(network, model, rules, space):
    quantized = make_learnable_copy(network, model, rules, space, Allocation())
    quantized.activity = SpikeStatistics(dict.fromkeys(quantized.layers, 0.5))
    budgets = [Budget("ns_ace", "", 1e4), Budget("weight_memory", "", 1e3)]
    measures = BudgetPenaltyCallback(quantized, budgets, Allocation(), steps=8).after_epoch(1, 1.0)
    assert measures["ns_ace"] == 0.5 * model.cost("s_ace", quantized.layer_plans)
    assert measures["weight_memory"] == model.cost("weight_memory", quantized.layer_plans)


def test_renewal_stops_separately_once_the_means_are_near_and_enough_epochs_have_passed(
    network, model, rules, space, batch
):
    settings = Allocation(start=UniformBits(weight_bits=6, spike_bits=6, time_steps=1), renewal={"epochs": 2})
    quantized = make_learnable_copy(network, model, rules, space, settings)
    weights, spikes, _ = model.means(quantized.layer_plans)
    renewal = Renewal(quantized, (weights - 4, spikes - 4, 1.0), settings)

    def flags():
        return {(layer.renew_weights, layer.renew_spikes) for layer in quantized.layers.values()}

    def set_weight_bits(bits):
        with torch.no_grad():
            for layer in quantized.searched_layers.values():
                layer.weight_latent.fill_(bits)
        quantized.round_latents()

    assert flags() == {(True, True)}
    set_weight_bits(2.0)
    renewal.after_epoch(1, 1.0)
    assert flags() == {(True, True)}
    set_weight_bits(4.0)
    renewal.after_epoch(2, 1.0)
    assert flags() == {(True, True)}
    set_weight_bits(2.0)
    renewal.after_epoch(3, 1.0)
    assert flags() == {(False, True)}
    set_weight_bits(6.0)
    renewal.after_epoch(4, 1.0)
    assert flags() == {(False, True)}


def test_renewal_may_be_off_from_the_start(network, model, rules, space):
    quantized = make_learnable_copy(network, model, rules, space, Allocation())
    Renewal(quantized, (1.0, 1.0, 1.0), Allocation(renewal={"enabled": False}))
    assert not any(layer.renew_weights or layer.renew_spikes for layer in quantized.layers.values())
