import math

import numpy as np
import pytest
import torch

from bitsearch.cost.geometry import LayerGeometry
from bitsearch.cost.metrics import METRICS
from bitsearch.cost.model import CostModel
from bitsearch.errors import InputError
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.space import FirstLayer


def layer(name, macs, weights, inputs, outputs, *, first=False):
    return LayerGeometry(name, macs, weights, inputs, outputs, signed_input=first, first=first)


# A 3×3 convolution 1→2 on 4×4, one 2→4 with stride 2, a linear layer 16→3.
LAYERS = (
    layer("conv1", 288, 18, 16, 2, first=True),
    layer("conv2", 288, 72, 32, 4),
    layer("fc", 48, 48, 16, 3),
)
PLAN = {
    "conv1": LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1),
    "conv2": LayerPlan(weight_bits=3, spike_bits=(3, 2), time_steps=2),
    "fc": LayerPlan(weight_bits=2, spike_bits=(4,), time_steps=1),
}
RATES = {"conv1": 1.0, "conv2": 0.25, "fc": 0.5}


def test_every_metric_by_hand():
    costs = CostModel(LAYERS).costs(PLAN, RATES)
    assert costs == pytest.approx(
        {
            "bit_budget": (18 * 8 + 72 * 3 + 48 * 2) / 138 * (16 * 8 + 32 * 2.5 + 16 * 4) / 64 * (16 + 64 + 16) / 64,
            "s_ace": 288 * 8 * 8 + 288 * 3 * 5 + 48 * 2 * 4,
            "bit_budget_mac": (288 * 8 * 8 + 288 * 3 * 5 + 48 * 2 * 4) / (288 + 288 + 48),
            "ns_ace": 288 * 8 * 8 + 288 * 3 * 5 * 0.25 + 48 * 2 * 4 * 0.5,
            "weight_memory": (18 + 4 + 16) + (27 + 8 + 32) + (12 + 4 + 24),
        }
    )


def test_the_first_layer_uncounted():
    model = CostModel(LAYERS, first_layer_counted=False)
    assert model.means(PLAN) == pytest.approx(((72 * 3 + 48 * 2) / 120, (32 * 2.5 + 16 * 4) / 48, (64 + 16) / 48))
    assert model.cost("s_ace", PLAN) == 288 * 3 * 5 + 48 * 2 * 4
    assert model.cost("weight_memory", PLAN) == CostModel(LAYERS).cost("weight_memory", PLAN)


def test_nothing_left_to_count_is_refused():
    with pytest.raises(InputError, match=r"first_layer\.counted = true"):
        CostModel(LAYERS[:1], first_layer_counted=False)
    with pytest.raises(InputError, match="no layer"):
        CostModel([])


def test_firing_rates_decide_whether_ns_ace_is_known():
    model = CostModel(LAYERS)
    assert set(model.costs(PLAN)) == set(METRICS) - {"ns_ace"}
    assert math.isnan(model.cost("ns_ace", PLAN))
    assert math.isnan(model.cost("ns_ace", PLAN, {"conv1": 1.0}))
    assert model.cost("ns_ace", PLAN, RATES) == 19704


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_cost_is_the_entry_of_costs(metric):
    model = CostModel(LAYERS)
    assert model.cost(metric, PLAN, RATES) == model.costs(PLAN, RATES)[metric]


def latents(dtype=torch.float32):
    weights = torch.tensor([8.0, 3.0, 2.0], dtype=dtype, requires_grad=True)
    spikes = torch.tensor([8.0, 2.5, 4.0], dtype=dtype, requires_grad=True)
    steps = torch.tensor([1.0, 2.0, 1.0], dtype=dtype, requires_grad=True)
    return weights, spikes, steps


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("metric", ["bit_budget", "bit_budget_mac", "s_ace", "weight_memory"])
def test_the_differentiable_cost_equals_the_exact_one(metric, counted):
    model = CostModel(LAYERS, first_layer_counted=counted)
    assert model.differentiable(metric, *latents()).item() == pytest.approx(model.cost(metric, PLAN), rel=1e-5)


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("metric", ["bit_budget", "bit_budget_mac", "s_ace"])
def test_the_gradient_is_the_difference_quotient(metric, counted):
    model = CostModel(LAYERS, first_layer_counted=counted)
    vectors = latents(torch.float64)
    model.differentiable(metric, *vectors).backward()
    for moved in vectors:
        for index in range(3):
            costs = []
            for shift in (1e-4, -1e-4):
                with torch.no_grad():
                    moved[index] += shift
                    costs.append(model.differentiable(metric, *vectors).item())
                    moved[index] -= shift
            assert moved.grad[index].item() == pytest.approx((costs[0] - costs[1]) / 2e-4, rel=1e-5, abs=1e-8)
    if not counted:
        assert all(moved.grad[0] == 0 for moved in vectors)


def test_the_differentiable_means_equal_the_exact_ones():
    model = CostModel(LAYERS)
    means = model.differentiable_means(*latents())
    assert [mean.item() for mean in means] == pytest.approx(model.means(PLAN), rel=1e-5)
    assert all(mean.requires_grad for mean in means)


def test_a_plan_for_another_network_is_refused():
    model = CostModel(LAYERS)
    with pytest.raises(InputError, match=r"does not name 'fc'; the network's layers: conv1, conv2, fc"):
        model.cost("s_ace", {name: PLAN[name] for name in ("conv1", "conv2")})
    with pytest.raises(InputError, match=r"names 'fc2', which is not in the network; .*: conv1, conv2, fc"):
        model.cost("s_ace", PLAN | {"fc2": PLAN["fc"]})


def test_the_order_of_a_plan_does_not_matter():
    model = CostModel(LAYERS)
    assert model.costs(dict(reversed(PLAN.items()))) == model.costs(PLAN)


def test_a_uniform_plan_keeps_the_first_layers_own_bits():
    bits = UniformBits(weight_bits=3, spike_bits=2, time_steps=4)
    plan = CostModel(LAYERS).uniform(bits, FirstLayer(), granularity="channel", decay=0.5)
    assert list(plan) == ["conv1", "conv2", "fc"]
    common = {"granularity": "channel", "decay": 0.5}
    assert plan["conv1"] == LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1, signed_input=True, **common)
    assert plan["conv2"] == LayerPlan(weight_bits=3, spike_bits=(2, 2, 2, 2), time_steps=4, **common)


def test_a_uniform_plan_without_a_first_layer_costs_the_product_of_its_bits():
    model = CostModel(LAYERS)
    plan = model.uniform(UniformBits(weight_bits=8, spike_bits=4, time_steps=2), None)
    assert plan["conv1"] == LayerPlan(weight_bits=8, spike_bits=(4, 4), time_steps=2, signed_input=True)
    assert model.cost("bit_budget", plan) == pytest.approx(64)
    assert model.cost("bit_budget_mac", plan) == pytest.approx(64)


def test_geometry_holds_one_number_a_layer():
    geometry = CostModel(LAYERS, first_layer_counted=False).geometry(RATES)
    assert geometry.counted.tolist() == [0, 1, 1]
    assert geometry.firing_rates.tolist() == [1.0, 0.25, 0.5]
    assert geometry.macs.dtype == np.float64
