"""A hardware target's ``membrane_bits`` is what plans' membranes are trained with."""

import pytest
import torch
from cost_problems import make_target
from torch import nn

import bitsearch
from bitsearch.allocation.methods.base import AllocationProblem, make_learnable_copy
from bitsearch.choices import Choices, FirstLayer
from bitsearch.cost import AllowedBits, CostModel, parse_budgets, trace
from bitsearch.errors import InputError
from bitsearch.layer_rules import LayerRule
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.space import SearchSpace

BITS = UniformBits(weight_bits=4, spike_bits=3, time_steps=3)
MOST = UniformBits(weight_bits=8, spike_bits=8, time_steps=4)
CHIP = make_target("chip", membrane_bits=12, accumulator_bits=24)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.last(self.second(self.first(x).relu()).relu())


def inputs(seed=0):
    return torch.rand(32, 12, generator=torch.Generator().manual_seed(seed))


def trained(target):
    """Learnable bits after a few steps, frozen within a budget."""
    torch.manual_seed(0)
    network = bitsearch.quantize(Network(), inputs(), target=target, start=BITS)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for seed in range(4):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs(seed)), torch.arange(32) % 4).backward()
        optimizer.step()
    network.project("2x")
    return network.eval()


def test_a_plan_for_a_chip_packs_to_its_membranes(tmp_path):
    network = trained(CHIP)
    plans = network.layer_plans
    assert {(plan.membrane_bits, plan.spike_granularity) for plan in plans.values()} == {(12, "layer")}
    bitsearch.pack(network.network, inputs(), tmp_path / "packed", target=CHIP)
    packed = bitsearch.read(tmp_path / "packed")
    assert {run.membrane for run in packed.widths.values()} == {12}
    samples = torch.utils.data.TensorDataset(inputs(9), torch.arange(32) % 4)
    verification = bitsearch.verify(packed, network.network, inputs(), samples)
    assert verification.equal
    assert max(layer.membrane_bits for layer in verification.layers) <= 12
    again = convert(
        Network(), {name: LayerPlan.model_validate_json(plan.model_dump_json()) for name, plan in plans.items()}
    )
    again.load_state_dict(network.network.state_dict())
    assert torch.equal(again.eval()(inputs(9)), network(inputs(9)))


def test_a_plan_for_a_chip_keeps_to_its_accumulators(tmp_path):
    # At w8 s8 T4, 16 inputs add up to 21 bits and a sign; the first layer's fixed bits take 20.
    chip = make_target("chip", accumulator_bits=20)
    network = bitsearch.quantize(Network(), inputs(), target=chip, start=MOST)
    widest = network.model.layer_costs("accumulator", network.layer_plans)
    assert widest == {"first": 20, "second": 22, "last": 22}
    limits = parse_budgets("1x", "bit_budget", network.model, MOST)
    network.eval()(inputs())
    network.project(*limits)
    costs = network.model.layer_costs("accumulator", network.layer_plans)
    assert max(costs.values()) == 20
    bitsearch.pack(network.network, inputs(), tmp_path / "packed", target=chip)
    widths = bitsearch.read(tmp_path / "packed").widths
    assert len(widths) == 3
    assert all(widths[name].accumulator <= costs[name] for name in costs)
    narrow = CostModel(network.model.layers, target=make_target("narrow", accumulator_bits=19))
    with pytest.raises(
        InputError, match=r"target narrow \(accumulator ≤ 19 bits\) is infeasible: .* layer 'first' alone"
    ):
        parse_budgets("1x", "bit_budget", narrow, BITS)[-1].check_feasible(narrow, network.rules)


def test_membranes_of_any_width_are_named_where_they_may_be_wider(tmp_path):
    network = trained("generic")
    assert {plan.membrane_bits for plan in network.layer_plans.values()} == {None}
    target = make_target("chip", membrane_bits=12)
    with pytest.warns(UserWarning, match=r"membranes of layer '\w+' may take \d+ bits, and those of .* 'chip' have 12"):
        bitsearch.pack(network.network, inputs(), tmp_path / "packed", target=target)


def problem(target, rules=(), **quantizer):
    settings = [f"allocation.quantizer.{name}={value}" for name, value in quantizer.items()]
    space, network = SearchSpace.load("digits").override(settings), Network()
    model = CostModel(trace(network, inputs()), target=target)
    allowed = AllowedBits.make(model, Choices(), FirstLayer(), rules)
    model = model.with_one_step(allowed.one_step(quantizer.get("spike_granularity", target.spike_granularity)))
    return AllocationProblem(network, model, allowed, None, space, space.allocation, [], seed=0)


def test_the_width_reaches_plans_of_every_kind_and_a_rule_takes_a_layer_out():
    chip = problem(CHIP, [LayerRule(match="second", spike_granularity="step")])
    widths = {"first": 12, "second": None, "last": 12}
    for plan in (chip.plan(BITS), chip.rules.smallest(chip.model)):
        assert {name: layer.membrane_bits for name, layer in plan.items()} == widths
        assert {name: layer.spike_granularity is None for name, layer in plan.items()} == {
            name: width is None for name, width in widths.items()
        }
    copy = make_learnable_copy(chip.network, chip.model, chip.rules, chip.space, chip.settings)
    assert {name: layer.layer_plan.membrane_bits for name, layer in copy.layers.items()} == widths
    own_steps = problem(CHIP, spike_granularity="step")
    assert {layer.membrane_bits for layer in own_steps.plan(BITS).values()} == {None}
    # Narrow sums alone ask for one step size, too; elsewhere every time step has its own.
    sums = problem(make_target("sums", accumulator_bits=20)).plan(BITS)
    assert {(layer.membrane_bits, layer.spike_granularity) for layer in sums.values()} == {(None, "layer")}
    generic = problem(make_target("any")).plan(BITS)
    assert {(layer.membrane_bits, layer.spike_granularity) for layer in generic.values()} == {(None, None)}


def test_steps_of_their_own_on_such_a_target_are_told():
    with pytest.warns(UserWarning, match="'chip' has membranes of 12 bits, whose unit is one step size a layer; with"):
        network = bitsearch.quantize(Network(), inputs(), target=CHIP, spike_granularity="step")
    assert {plan.membrane_bits for plan in network.layer_plans.values()} == {None}


def test_spikes_are_no_wider_than_a_membrane_holds():
    narrow = make_target("narrow", membrane_bits=8)
    model = CostModel(trace(Network(), inputs()), target=narrow)
    rules = AllowedBits.make(model, Choices(), FirstLayer(spike_bits=7))
    eight = UniformBits(weight_bits=8, spike_bits=8, time_steps=2)
    assert {layer.spike_bits for layer in rules.nearest(model, eight, granularity="layer").values()} == {(7,), (7, 7)}
    # As a baseline it has its costs.
    assert model.cost("s_ace", model.uniform(eight, None)) == 8 * 8 * 2 * sum(layer.macs for layer in model.layers)
    assert max(rules.choices["last"].spike_bits.values) == 7
    with pytest.raises(
        InputError, match=r"first_layer.spike_bits is 8, but the hardware target 'narrow' allows 1, .* 7"
    ):
        bitsearch.quantize(Network(), inputs(), target=narrow)
