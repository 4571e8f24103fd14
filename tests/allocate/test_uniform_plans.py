from itertools import product

import pytest
import torch

from bitsearch.allocate.uniform import train_fixed, uniform_plans
from bitsearch.cost import Budget, CostModel, trace
from bitsearch.models import make_network
from bitsearch.plan import UniformBits
from bitsearch.space import Choices, SearchSpace, Span


@pytest.fixture(scope="module")
def digits():
    """(search space, cost model) of the shipped digits space."""
    space = SearchSpace.load("digits")
    torch.manual_seed(0)
    network = make_network(space.network, space.network_options, input_shape=(1, 8, 8), classes=10)
    return space, CostModel(trace(network, torch.randn(4, 1, 8, 8)))


def as_tuples(plans):
    return [(plan.weight_bits, plan.spike_bits, plan.time_steps) for plan in plans]


@pytest.mark.parametrize("first_layer_counted", [True, False])
def test_at_a_budget_of_four_one_weight_bit_and_three_weight_bits_compete(digits, first_layer_counted):
    space, model = digits
    model = CostModel(model.layers, first_layer_counted=first_layer_counted)
    # Uncounted, 4 buys 1/4/1; counted, the first layer's 8/8/1 takes its share.
    plans = as_tuples(uniform_plans(model, space, Budget("bit_budget", "4", 4.0), limit=100))
    if first_layer_counted:
        assert (1, 3, 1) in plans
        assert (3, 1, 1) in plans
    else:
        assert {(1, 4, 1), (4, 1, 1), (2, 2, 1), (2, 1, 2), (1, 2, 2), (1, 1, 4)} == set(plans)


@pytest.mark.parametrize("metric", ["bit_budget", "s_ace", "weight_memory"])
@pytest.mark.parametrize("share", [0.03, 0.1, 0.5])
def test_every_plan_is_feasible_and_maximal_and_none_is_missing(digits, metric, share):
    space, model = digits
    budget = Budget.parse(
        str(share * model.cost(metric, model.uniform(space.baseline, None))), metric, model, space.baseline
    )

    def feasible(point):
        w, s, t = point
        if w > 8 or s > 8 or t > 4:
            return False
        plan = model.uniform(UniformBits(weight_bits=w, spike_bits=s, time_steps=t), space.first_layer)
        return model.cost(metric, plan) <= budget.limit

    plans = as_tuples(uniform_plans(model, space, budget, limit=1000))
    assert len(plans) == len(set(plans))
    expected = {
        (w, s, t)
        for w, s, t in product(range(1, 9), range(1, 9), range(1, 5))
        if feasible((w, s, t)) and not any(map(feasible, ((w + 1, s, t), (w, s + 1, t), (w, s, t + 1))))
    }
    assert set(plans) == expected


def test_the_limit_keeps_the_first_of_the_ranking(digits):
    space, model = digits
    budget = Budget("bit_budget", "8", 8.0)
    everything = uniform_plans(model, space, budget, limit=1000)
    assert len(everything) > 3
    assert uniform_plans(model, space, budget, limit=3) == everything[:3]


def test_plans_stay_within_the_spaces_choices(digits):
    space, model = digits
    choices = Choices(weight_bits=Span(low=2, high=3), spike_bits=Span(low=1, high=2), time_steps=Span(low=2, high=2))
    start = UniformBits(weight_bits=2, spike_bits=2, time_steps=2)
    space = space.model_copy(
        update={"choices": choices, "allocation": space.allocation.model_copy(update={"start": start})}
    )
    assert as_tuples(uniform_plans(model, space, Budget("bit_budget", "", 1e6), limit=9)) == [(3, 2, 2)]


def test_a_fixed_plan_is_trained_for_all_epochs_and_kept(network, model, splits, space):
    plan = model.uniform(UniformBits(weight_bits=2, spike_bits=3, time_steps=2), space.first_layer)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    records = []
    quantized = train_fixed(network, model, plan, splits, space, seed=0, on_epoch=records.append)
    assert quantized.layer_plans == plan
    assert [record.epoch for record in records] == [1, 2, 3, 4]
    assert records[-1].loss < records[0].loss
    for name, value in before.items():
        assert torch.equal(network.state_dict()[name], value)
