"""Step sizes in powers of two, in every place where a layer has or gets one."""

import math

import pytest
import torch
from cost_problems import make_target
from torch import nn

import bitsearch
from bitsearch.allocation.methods.base import AllocationProblem, make_learnable_copy
from bitsearch.allocation.signals.fisher_loss import FisherLossModel
from bitsearch.choices import Choices, FirstLayer
from bitsearch.cost import AllowedBits, CostModel, trace
from bitsearch.errors import InputError
from bitsearch.layer_rules import LayerRule
from bitsearch.layers import convert
from bitsearch.layers.rounding import RoundingOffsets
from bitsearch.layers.soft_weights import SoftWeights
from bitsearch.plan import LayerPlan, NeuronSettings, UniformBits
from bitsearch.space import SearchSpace

BITS = UniformBits(weight_bits=4, spike_bits=3, time_steps=3)


def is_power(steps):
    return all(math.frexp(step)[0] == 0.5 for step in steps.detach().flatten().tolist())


def linear(**options):
    torch.manual_seed(0)
    plan = {"weight_bits": 4, "spike_bits": (3, 3), "time_steps": 2, "step_sizes": "power_of_two"} | options
    return convert(nn.Sequential(nn.Linear(12, 6)), {"0": LayerPlan(**plan)})[0]


def inputs(seed=0, *shape):
    return torch.rand(*shape or (32,), 12, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"granularity": "channel"},
        {"spike_granularity": "layer"},
        {"frames": 2},
        {"neuron": NeuronSettings(threshold="full")},
        {"signed_input": True},
    ],
)
def test_sizes_are_powers_of_two_from_the_first_batch_on_and_while_they_are_learned(options):
    layer = linear(**options)
    # Beyond the threshold of a network's own neuron, which is 1.
    x = 2 * (inputs(0, 2, 32) if "frames" in options else inputs())
    layer(x)
    optimizer = torch.optim.Adam([layer.weight_log_step, layer.spike_log_step], 0.1)
    seen = set()
    for _ in range(20):
        optimizer.zero_grad()
        (layer(x) - 3).square().mean().backward()
        optimizer.step()
        assert is_power(layer.weight_step)
        assert is_power(layer.spike_step)
        seen.add(tuple(layer.spike_step.tolist()))
    # They are learned: the logarithms pass from one power to another.
    assert len(seen) > 1


def test_the_gradient_of_the_logarithm_is_that_of_a_free_size_of_the_same_value():
    power, free = linear(), linear(step_sizes=None)
    power(inputs())
    free.load_state_dict(power.state_dict())
    with torch.no_grad():
        for name in ("weight", "spike"):
            getattr(free, f"{name}_log_step").copy_(getattr(power, f"{name}_step").log())
    for layer in (power, free):
        layer(inputs(1)).square().sum().backward()
    for name in ("weight_log_step", "spike_log_step"):
        torch.testing.assert_close(getattr(power, name).grad, getattr(free, name).grad, rtol=1e-5, atol=1e-5)


def test_sigmoids_leave_weights_on_a_grid_of_a_power_of_two():
    layer = linear()
    layer(inputs())
    layer.soft_weights = SoftWeights(layer.weight.detach(), 4, power_of_two=True)
    layer.eval()
    hard = layer.quantized_weight()
    layer.harden()
    assert is_power(layer.weight_step)
    assert torch.equal(layer.quantized_weight(), hard)


def test_learned_roundings_stand_on_it_too():
    layer = linear()
    layer(inputs())
    layer.soft_weights = offsets = RoundingOffsets(layer)
    with torch.no_grad():
        layer.weight_log_step.add_(0.3)
    offsets.harden()
    assert is_power(layer.weight_step)
    # Levels of float32 weights that are steps times whole numbers.
    levels = layer.quantized_weight() / layer.weight_step
    assert torch.equal(levels, levels.round())


def test_a_plan_says_it_and_its_weights_come_back():
    layer = linear(granularity="channel")
    layer(inputs())
    plan = layer.layer_plan
    assert plan.step_sizes == "power_of_two"
    again = convert(nn.Sequential(nn.Linear(12, 6)), {"0": LayerPlan.model_validate_json(plan.model_dump_json())})[0]
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(inputs(3)), layer(inputs(3)))
    assert "step_sizes" not in LayerPlan(weight_bits=1, spike_bits=(1,), time_steps=1).model_dump(exclude_none=True)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.last(self.second(self.first(x).relu()).relu())


def test_the_setting_reaches_plans_of_every_kind_and_a_rule_takes_its_place():
    space = SearchSpace.load("digits").override(["allocation.quantizer.step_sizes=power_of_two"])
    network = Network()
    model = CostModel(trace(network, inputs()))
    rules = AllowedBits.make(model, Choices(), FirstLayer(), [LayerRule(match="second", step_sizes="free")])
    problem = AllocationProblem(network, model, rules, None, space, space.allocation, [], seed=0)
    kinds = {"first": "power_of_two", "second": None, "last": "power_of_two"}
    assert {name: plan.step_sizes for name, plan in problem.plan(BITS).items()} == kinds
    copy = make_learnable_copy(network, model, rules, space, space.allocation)
    assert {name: layer.layer_plan.step_sizes for name, layer in copy.layers.items()} == kinds


def test_a_target_may_require_it():
    target = make_target("shifting", layers=[{"match": "*", "step_sizes": "power_of_two"}])
    quantized = bitsearch.quantize(Network(), inputs(), target=target)
    assert {plan.step_sizes for plan in quantized.layer_plans.values()} == {"power_of_two"}
    with pytest.raises(InputError, match="by target 'shifting'"):
        bitsearch.quantize(Network(), inputs(), target=target, layers=[LayerRule(match="last", step_sizes="free")])
    with pytest.raises(InputError, match="step_sizes is 'powers'; give 'free' or 'power_of_two'"):
        bitsearch.quantize(Network(), inputs(), step_sizes="powers")


def test_predicted_losses_are_those_of_powers_of_two():
    torch.manual_seed(0)
    quantized = bitsearch.quantize(Network(), inputs(), step_sizes="power_of_two")
    loss = FisherLossModel(quantized, seed=0)
    loss.probe(inputs())
    assert loss.weight_loss("second", 3) > 0
    assert loss.spike_loss("second", (3, 2)) > 0
    state = loss.states["second"]
    assert is_power(torch.stack([*state.weight_steps.values(), *state.spike_steps.values()]))


def test_one_weight_has_one_kind_of_step_size():
    network = Network()
    network.last = nn.Linear(16, 16)
    network.last.weight = network.second.weight
    plan = {
        name: LayerPlan(weight_bits=4, spike_bits=(3,), time_steps=1, step_sizes=kind)
        for name, kind in (("second", None), ("last", "power_of_two"))
    }
    with pytest.raises(InputError, match="the plan has step_sizes None and power_of_two for it; give both the same"):
        convert(network, plan)
