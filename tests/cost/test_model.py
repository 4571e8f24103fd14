import math

import numpy as np
import pytest
import torch
from cost_problems import (
    ACTIVITY,
    EVENT_DRIVEN,
    HARDWARE,
    LAYERS,
    PLAN,
    activities,
    geometries,
    make_target,
    plans,
    target_fields,
)
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from tolerances import FLOAT64, rounding

from bitsearch.choices import FirstLayer
from bitsearch.cost import SpikeStatistics, Target
from bitsearch.cost.metrics import METRICS
from bitsearch.cost.model import CostModel
from bitsearch.errors import InputError
from bitsearch.plan import LayerPlan, UniformBits

S_ACE = {"conv1": 288 * 8 * 8, "conv2": 288 * 3 * 5, "fc": 48 * 2 * 4, "attention": 10 * 32 * 32}
ADDED_UP = {"s_ace", "ns_ace", "synops", "weight_memory", "energy", "latency", "cores"}
QUANTIZED = LAYERS[:3]


def test_every_metric_by_hand():
    # How each comes about is in test_metrics.
    assert CostModel(LAYERS, target=HARDWARE).costs(PLAN, ACTIVITY) == pytest.approx(
        {
            "bit_budget": 616 / 143 * 464 / 70 * 102 / 70,
            "s_ace": sum(S_ACE.values()),
            "bit_budget_mac": sum(S_ACE.values()) / 634,
            "ns_ace": S_ACE["conv1"] + S_ACE["conv2"] / 4 + S_ACE["fc"] / 2 + S_ACE["attention"],
            "synops": 288 * 0.75 + 576 * 0.125 + 48 * 0.5 + 10,
            "weight_memory": 181,
            "working_memory": 212,
            "energy": 9708 + 3630 + 564 + 5414.5,
            "latency": 0.5415,
            "cores": 7,
        }
    )


def test_without_unquantized_layers_they_cost_nothing():
    costs = CostModel(QUANTIZED, target=HARDWARE).costs(PLAN, ACTIVITY)
    assert costs["bit_budget"] == pytest.approx(456 / 138 * 272 / 64 * 96 / 64)
    assert costs["s_ace"] == sum(S_ACE.values()) - S_ACE["attention"]
    assert costs["weight_memory"] == 145
    assert costs["cores"] == 6


def test_the_target_decides_which_metrics_there_are():
    bare = CostModel(LAYERS, target=make_target())
    assert set(bare.metrics) == set(METRICS) - {"energy", "latency", "accumulator", "cores"}
    assert set(bare.costs(PLAN, ACTIVITY)) == set(bare.metrics)
    assert CostModel(LAYERS).target == Target.load("generic")
    assert set(CostModel(LAYERS).metrics) == set(METRICS) - {"latency", "accumulator", "cores"}


def test_layers_get_bits_and_others_are_kept_apart_wherever_they_run():
    model = CostModel((LAYERS[3], *QUANTIZED), target=HARDWARE)
    assert (model.layers, model.unquantized) == (QUANTIZED, LAYERS[3:])
    assert model.costs(PLAN, ACTIVITY) == CostModel(LAYERS, target=HARDWARE).costs(PLAN, ACTIVITY)


def test_every_layers_own_cost():
    model = CostModel(LAYERS, target=HARDWARE)
    assert model.layer_costs("s_ace", PLAN) == S_ACE
    assert model.layer_costs("cores", PLAN) == {"conv1": 2, "conv2": 3, "fc": 1, "attention": 1}
    assert model.layer_costs("working_memory", PLAN) == {"conv1": 64, "conv2": 212, "fc": 56, "attention": 42}
    # Of a product or a mean, what the layer would have alone.
    for metric in ("bit_budget", "bit_budget_mac"):
        own = model.layer_costs(metric, PLAN)
        assert own == pytest.approx({"conv1": 64, "conv2": 15, "fc": 8, "attention": 1024})
    # A layer that is left out has none.
    uncounted = CostModel(LAYERS, target=HARDWARE, first_layer_counted=False)
    assert uncounted.layer_costs("bit_budget", PLAN)["conv1"] == 0


@examples(40)
@given(geometries(), target_fields(), st.data())
def test_the_layers_costs_add_up(layers, fields, data):
    model = CostModel(layers, target=make_target(**fields))
    names = [layer.name for layer in model.layers]
    plan, activity = data.draw(plans(names)), data.draw(activities(names))
    costs = model.costs(plan, activity)
    assert set(costs) == set(model.metrics)
    for metric, cost in costs.items():
        own = model.layer_costs(metric, plan, activity)
        assert set(own) == {layer.name for layer in layers}
        if metric in ADDED_UP:
            assert cost == pytest.approx(sum(own.values()), rel=FLOAT64)
    assert costs["working_memory"] == max(model.layer_costs("working_memory", plan).values())


@examples(100)
@given(geometries(), target_fields(), st.data())
def test_no_cost_of_a_plan_rises_when_a_bit_or_a_step_is_taken_away(layers, fields, data):
    model = CostModel(layers, target=make_target(**fields))
    names = [layer.name for layer in model.layers]
    plan, activity = data.draw(plans(names)), data.draw(activities(names))
    name = data.draw(st.sampled_from(names))
    layer = plan[name]
    kind = data.draw(st.sampled_from(["weight", "spike", "time"]))
    weight_bits, spike_bits = layer.weight_bits, list(layer.spike_bits)
    if kind == "weight":
        weight_bits = data.draw(st.integers(1, weight_bits))
    elif kind == "spike":
        step = data.draw(st.integers(0, len(spike_bits) - 1))
        spike_bits[step] = data.draw(st.integers(1, spike_bits[step]))
    else:
        del spike_bits[data.draw(st.integers(1, len(spike_bits))) :]
    fewer = LayerPlan(weight_bits=weight_bits, spike_bits=tuple(spike_bits), time_steps=len(spike_bits))
    before, after = model.costs(plan, activity), model.costs(plan | {name: fewer}, activity)
    for metric, cost in after.items():
        # Averaging S̄ over the steps, a product of means may rise as a step of few bits goes.
        if metric != "bit_budget" or kind != "time":
            assert cost <= before[metric] * (1 + FLOAT64), metric


def test_a_product_of_means_may_rise_as_a_time_step_of_few_bits_goes():
    model = CostModel(QUANTIZED)
    two = PLAN | {"fc": LayerPlan(weight_bits=2, spike_bits=(8, 1), time_steps=2)}
    one = PLAN | {"fc": LayerPlan(weight_bits=2, spike_bits=(8,), time_steps=1)}
    assert model.cost("bit_budget", one) > model.cost("bit_budget", two)
    assert model.cost("s_ace", one) < model.cost("s_ace", two)


def test_the_first_layer_uncounted():
    model = CostModel(QUANTIZED, first_layer_counted=False)
    assert model.means(PLAN) == pytest.approx(((72 * 3 + 48 * 2) / 120, (32 * 2.5 + 16 * 4) / 48, (64 + 16) / 48))
    assert model.cost("s_ace", PLAN) == 288 * 3 * 5 + 48 * 2 * 4
    for metric in ("weight_memory", "working_memory", "energy"):
        assert model.cost(metric, PLAN) == CostModel(QUANTIZED).cost(metric, PLAN)


def test_nothing_left_to_count_is_refused():
    with pytest.raises(InputError, match=r"first_layer\.counted = true"):
        CostModel(LAYERS[:1], first_layer_counted=False)
    with pytest.raises(InputError, match="no layer"):
        CostModel([])
    with pytest.raises(InputError, match="no layer"):
        CostModel(LAYERS[3:])


def test_spike_counts_decide_which_costs_are_known():
    model = CostModel(LAYERS, target=EVENT_DRIVEN)
    needed = {name for name in METRICS if model.needs_activity(name)}
    assert needed == {"ns_ace", "synops", "energy"}
    assert set(model.costs(PLAN)) == set(model.metrics) - needed
    assert not CostModel(LAYERS, target=HARDWARE).needs_activity("energy")
    for metric in needed:
        assert math.isnan(model.cost(metric, PLAN))
    partly = SpikeStatistics({"conv1": 1.0, "conv2": 0.25, "fc": 0.5}, {"conv1": 1.0})
    assert math.isnan(model.cost("synops", PLAN, partly))
    assert model.cost("ns_ace", PLAN, partly) == 19704 + S_ACE["attention"]


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_cost_is_the_entry_of_costs(metric):
    model = CostModel(LAYERS, target=HARDWARE.model_copy(update={"accumulator_bits": 32}))
    assert model.cost(metric, PLAN, ACTIVITY) == model.costs(PLAN, ACTIVITY)[metric]


def latents(dtype=torch.float32):
    weights = torch.tensor([8.0, 3.0, 2.0], dtype=dtype, requires_grad=True)
    spikes = torch.tensor([8.0, 2.5, 4.0], dtype=dtype, requires_grad=True)
    steps = torch.tensor([1.0, 2.0, 1.0], dtype=dtype, requires_grad=True)
    return weights, spikes, steps


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("target", [HARDWARE, EVENT_DRIVEN], ids=["hardware", "events"])
def test_the_differentiable_cost_equals_the_exact_one(target, counted):
    model = CostModel(LAYERS, first_layer_counted=counted, target=target)
    for metric in model.metrics:
        found = model.cost_tensor(metric, *latents(), ACTIVITY).item()
        assert found == pytest.approx(model.cost(metric, PLAN, ACTIVITY), rel=2 * rounding(64)), metric


def test_the_differentiable_cost_follows_new_spike_counts():
    model = CostModel(LAYERS)
    for rate in (1.0, 0.25, 0.5):
        activity = SpikeStatistics(dict.fromkeys(PLAN, rate))
        expected = rate * (sum(S_ACE.values()) - S_ACE["attention"]) + S_ACE["attention"]
        assert model.cost_tensor("ns_ace", *latents(), activity).item() == pytest.approx(expected)
    assert math.isnan(model.cost_tensor("ns_ace", *latents()).item())
    assert model.cost_tensor("s_ace", *latents()).item() == pytest.approx(sum(S_ACE.values()))


@pytest.mark.parametrize("activity", [None, ACTIVITY])
def test_a_training_step_does_not_move_the_counts_to_its_device_again(activity, monkeypatch):
    model = CostModel(LAYERS)
    model.cost_tensor("s_ace", *latents(), activity)
    monkeypatch.setattr(model, "geometry", None)
    model.cost_tensor("s_ace", *latents(), activity)
    model.cost_tensor("weight_memory", *latents(), activity)


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("metric", ["bit_budget", "bit_budget_mac", "s_ace", "ns_ace", "latency"])
def test_the_gradient_is_the_difference_quotient(metric, counted):
    model = CostModel(LAYERS, first_layer_counted=counted, target=HARDWARE)
    vectors = latents(torch.float64)
    model.cost_tensor(metric, *vectors, ACTIVITY).backward()
    for moved in vectors:
        for index in range(3):
            costs = []
            for shift in (1e-4, -1e-4):
                with torch.no_grad():
                    moved[index] += shift
                    costs.append(model.cost_tensor(metric, *vectors, ACTIVITY).item())
                    moved[index] -= shift
            # Off by the third derivative's share, 1e-8 in numbers of about one, and by roundings over the distance.
            off = rounding(64, torch.float64) / 1e-4 * abs(costs[0])
            found = moved.grad[index].item()
            assert found == pytest.approx((costs[0] - costs[1]) / 2e-4, rel=1e-7, abs=off)
    if not counted and metric != "latency":
        assert all(moved.grad[0] == 0 for moved in vectors)


def test_the_differentiable_means_equal_the_exact_ones():
    model = CostModel(LAYERS)
    means = model.mean_tensors(*latents())
    assert [mean.item() for mean in means] == pytest.approx(model.means(PLAN), rel=2 * rounding(64))
    assert all(mean.requires_grad for mean in means)


def test_a_plan_for_another_network_is_refused():
    model = CostModel(LAYERS)
    with pytest.raises(InputError, match=r"does not name 'fc'; the network's layers: conv1, conv2, fc"):
        model.cost("s_ace", {name: PLAN[name] for name in ("conv1", "conv2")})
    with pytest.raises(InputError, match=r"names 'fc2', which is not in the network; .*: conv1, conv2, fc"):
        model.cost("s_ace", PLAN | {"fc2": PLAN["fc"]})
    misspelt = {"ffc" if name == "fc" else name: layer for name, layer in PLAN.items()}
    with pytest.raises(InputError, match=r"names 'ffc', which is not in the network and does not name 'fc'; the"):
        model.cost("s_ace", misspelt)


def test_the_order_of_a_plan_does_not_matter():
    model = CostModel(LAYERS)
    assert model.costs(dict(reversed(PLAN.items()))) == model.costs(PLAN)


def test_a_uniform_plan_keeps_the_first_layers_own_bits():
    bits = UniformBits(weight_bits=3, spike_bits=2, time_steps=4)
    plan = CostModel(LAYERS).uniform(bits, FirstLayer(), granularity="channel", decay=0.5)
    assert list(plan) == ["conv1", "conv2", "fc"]
    common = {"granularity": "channel", "decay": 0.5, "neurons": ()}
    assert plan["conv1"] == LayerPlan(weight_bits=8, spike_bits=(8,), time_steps=1, signed_input=True, **common)
    assert plan["conv2"] == LayerPlan(weight_bits=3, spike_bits=(2, 2, 2, 2), time_steps=4, **common)


def test_a_uniform_plan_without_a_first_layer_costs_the_product_of_its_bits():
    model = CostModel(QUANTIZED)
    plan = model.uniform(UniformBits(weight_bits=8, spike_bits=4, time_steps=2), None)
    assert plan["conv1"] == LayerPlan(weight_bits=8, spike_bits=(4, 4), time_steps=2, signed_input=True, neurons=())
    assert model.cost("bit_budget", plan) == pytest.approx(64)
    assert model.cost("bit_budget_mac", plan) == pytest.approx(64)


def test_geometry_holds_one_number_a_layer():
    model = CostModel(LAYERS, first_layer_counted=False, target=HARDWARE)
    geometry = model.geometry(ACTIVITY)
    assert geometry.count_mask.tolist() == [0, 1, 1, 1]
    assert geometry.firing_rates.tolist() == [1.0, 0.25, 0.5, 1.0]
    assert geometry.synaptic_rates.tolist() == [0.75, 0.125, 0.5, 1.0]
    assert geometry.macs.dtype == np.float64
    assert geometry.target == HARDWARE
    # What is not quantized has no spikes to count: all of its inputs are something.
    np.testing.assert_equal(model.geometry().firing_rates, [math.nan, math.nan, math.nan, 1.0])
