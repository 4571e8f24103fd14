import math
from types import SimpleNamespace

import pytest
import torch

from bitsearch.allocate.adaptive import BudgetPull, Renewal, allocate_adaptively, make_searchable
from bitsearch.cost import Budget
from bitsearch.plan import UniformBits
from bitsearch.space import Allocation

KNOBS = {
    "curvature": {},
    "straight_through": {"estimator": "straight_through"},
    "means": {"regularizer": "means"},
    "published": {"estimator": "straight_through", "regularizer": "means"},
    "channel": {"granularity": "channel"},
    "no_renewal": {"renewal": False},
    "leaky": {"decay": 0.5, "depth_preference": 1.0, "probe_every": 1},
    "priced": {"weight_price": 0.2, "spike_price": 5.0, "time_price": 2.0, "budget_share": 0.8},
}


def least_cost(model, space, metric="bit_budget"):
    return model.cost(metric, model.uniform(space.choices.smallest, space.first_layer))


def budget_of(model, space, ratio=2.0, metric="bit_budget"):
    return Budget(metric, "given", ratio * least_cost(model, space, metric))


def run(network, model, splits, space, budget, seed=0, on_epoch=None, **knobs):
    return allocate_adaptively(network, model, splits, space, Allocation(**knobs), budget, seed=seed, on_epoch=on_epoch)


@pytest.mark.parametrize("knobs", KNOBS.values(), ids=KNOBS)
def test_the_result_meets_its_budget_is_fixed_and_not_uniform(network, model, splits, space, knobs):
    budget = budget_of(model, space)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    quantized = run(network, model, splits, space, budget, **knobs)
    plans = quantized.layer_plans
    assert model.cost("bit_budget", plans) <= budget.limit
    assert model.cost("bit_budget", plans) > 0.6 * budget.limit
    assert not quantized.searched_layers
    first, *searched = plans.values()
    assert (first.weight_bits, first.spike_bits) == (8, (8,))
    assert len({(plan.weight_bits, plan.spike_bits) for plan in searched}) > 1
    for plan in searched:
        assert plan.granularity == knobs.get("granularity", "layer")
        assert plan.decay == knobs.get("decay", 1.0)
        assert plan.weight_bits in space.choices.weight_bits
        assert plan.time_steps in space.choices.time_steps
    for name, value in before.items():
        assert torch.equal(network.state_dict()[name], value)


@pytest.mark.parametrize("metric", ["bit_budget_mac", "s_ace", "weight_memory"])
def test_a_budget_may_bind_any_metric(network, model, splits, space, metric):
    budget = budget_of(model, space, 1.5, metric)
    quantized = run(network, model, splits, space, budget)
    assert 0.9 * budget.limit < model.cost(metric, quantized.layer_plans) <= budget.limit


@pytest.mark.parametrize("knobs", [{}, {"estimator": "straight_through"}], ids=["curvature", "straight_through"])
def test_one_seed_gives_one_result(network, model, splits, space, knobs):
    budget = budget_of(model, space)
    one, other, different = (run(network, model, splits, space, budget, seed, **knobs) for seed in (7, 7, 8))
    assert one.layer_plans == other.layer_plans
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert not torch.equal(one.layers["0"].weight, different.layers["0"].weight)


def test_the_epochs_are_shared_between_search_and_fine_tuning(network, model, splits, space):
    records = []
    run(network, model, splits, space, budget_of(model, space), on_epoch=records.append, search_share=0.75)
    assert [(record.phase, record.epoch, record.epochs) for record in records] == [
        ("search", 1, 3),
        ("search", 2, 3),
        ("search", 3, 3),
        ("fine-tune", 1, 1),
    ]
    for record in records[:3]:
        assert record.measures["bit_budget"] > 0
        assert record.measures["penalty_weight"] > 0
    assert records[2].measures["bit_budget"] < records[0].measures["bit_budget"]
    assert records[2].measures["changes"] > 0


def test_a_smallest_budget_gives_the_smallest_plan(network, model, splits, space):
    quantized = run(network, model, splits, space, budget_of(model, space, 1.0))
    assert {(plan.weight_bits, plan.spike_bits) for plan in list(quantized.layer_plans.values())[1:]} == {(1, (1,))}


def test_a_share_of_a_budget_that_is_itself_too_small_still_gives_a_plan(network, model, splits, space):
    budget = budget_of(model, space, 1.1)
    quantized = run(network, model, splits, space, budget, budget_share=0.6)
    assert budget.met_by(model, quantized.layer_plans)


def test_a_share_of_the_budget_is_aimed_at(network, model, splits, space):
    budget = budget_of(model, space, 3.0)
    cost = model.cost("bit_budget", run(network, model, splits, space, budget, budget_share=0.6).layer_plans)
    assert 0.4 * budget.limit < cost <= 0.6 * budget.limit


def test_a_searchable_copy_starts_where_the_knobs_say(network, model, space):
    start = UniformBits(weight_bits=5, spike_bits=2, time_steps=3)
    quantized = make_searchable(network, model, space, Allocation(start=start))
    assert list(quantized.searched_layers) == ["3", "6", "10"]
    for layer in quantized.searched_layers.values():
        assert layer.latents.tolist() == [5, 3, 2, 2, 2, 2]
    assert quantized.layer_plans["0"].signed_input


def test_the_limit_is_tightened_over_the_first_half_of_the_search(network, model, space):
    quantized = make_searchable(network, model, space, Allocation())
    start = model.cost("bit_budget", quantized.layer_plans)
    budget = Budget("bit_budget", "", start / 4)
    pull = BudgetPull(quantized, budget, Allocation(), steps=8)
    violations = []
    for _ in range(8):
        value = pull.penalty().item()
        violations.append(value / pull.controller.weight)
    # The bits do not move here, so what is violated is the limit's own way down to a quarter.
    expected = [math.log(4) * share for share in (0.25, 0.5, 0.75, 1, 1, 1, 1, 1)]
    assert violations == pytest.approx(expected, rel=1e-4)


def test_renewal_stops_separately_once_the_means_are_near_and_enough_epochs_have_passed(network, model, space, batch):
    knobs = Allocation(start=UniformBits(weight_bits=6, spike_bits=6, time_steps=1), renewal_epochs=2)
    quantized = make_searchable(network, model, space, knobs)
    weights, spikes, _ = model.means(quantized.layer_plans)
    renewal = Renewal(quantized, SimpleNamespace(targets=(weights - 4, spikes - 4, 1.0)), knobs)

    def flags():
        return {(layer.renew_weights, layer.renew_spikes) for layer in quantized.layers.values()}

    def set_weight_bits(bits):
        with torch.no_grad():
            for layer in quantized.searched_layers.values():
                layer.weight_latent.fill_(bits)
        quantized.follow_latents()

    assert flags() == {(True, True)}
    set_weight_bits(2.0)
    renewal.after_epoch(1)
    assert flags() == {(True, True)}
    set_weight_bits(4.0)
    renewal.after_epoch(2)
    assert flags() == {(True, True)}
    set_weight_bits(2.0)
    renewal.after_epoch(3)
    assert flags() == {(False, True)}
    set_weight_bits(6.0)
    renewal.after_epoch(4)
    assert flags() == {(False, True)}


def test_renewal_may_be_off_from_the_start(network, model, space):
    quantized = make_searchable(network, model, space, Allocation())
    Renewal(quantized, SimpleNamespace(targets=(1.0, 1.0, 1.0)), Allocation(renewal=False))
    assert not any(layer.renew_weights or layer.renew_spikes for layer in quantized.layers.values())
