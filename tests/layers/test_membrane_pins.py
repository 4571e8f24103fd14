"""`[[layers]] membrane_bits`: a layer's membranes have the width that a rule says."""

import pytest
import torch
from cost_problems import make_target
from torch import nn

import bitsearch
from bitsearch.cost import CostModel
from bitsearch.errors import InputError
from bitsearch.layer_rules import LayerRule, TieRule
from bitsearch.plan import UniformBits

BITS = UniformBits(weight_bits=4, spike_bits=3, time_steps=3)
PINS = ("second:membrane_bits=8", "last:membrane_bits=12")


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.last(self.second(self.first(x).relu()).relu())


def inputs(seed=0):
    return torch.rand(32, 12, generator=torch.Generator().manual_seed(seed))


def quantized(**options):
    torch.manual_seed(0)
    return bitsearch.quantize(Network(), inputs(), **({"start": BITS, "layers": PINS} | options))


def test_widths_by_layer_reach_plan_training_packed_file_and_replay(tmp_path):
    network = quantized()
    widths = {"first": None, "second": 8, "last": 12}
    assert {name: plan.membrane_bits for name, plan in network.layer_plans.items()} == widths
    assert {plan.spike_granularity for name, plan in network.layer_plans.items() if widths[name]} == {"layer"}
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    nn.functional.cross_entropy(network(inputs()), torch.arange(32) % 4).backward()
    optimizer.step()
    assert {name: plan.membrane_bits for name, plan in network.project("2x").items()} == widths
    network.eval()(inputs())
    plan = network.plan("2x")
    plan.save(tmp_path / "plan.json")
    assert bitsearch.BitPlan.load(tmp_path / "plan.json").layers == plan.layers
    bitsearch.pack(network.network, inputs(), tmp_path / "packed")
    packed = bitsearch.read(tmp_path / "packed")
    assert {name: packed.widths[name].membrane for name in ("second", "last")} == {"second": 8, "last": 12}
    samples = torch.utils.data.TensorDataset(inputs(9), torch.arange(32) % 4)
    verification = bitsearch.verify(packed, network.network, inputs(), samples)
    assert verification.equal
    observed = {layer.name: layer.membrane_bits for layer in verification.layers}
    assert observed["second"] <= 8
    assert observed["last"] <= 12


def test_memory_and_energy_count_every_layer_at_its_own_width():
    target = make_target(
        "chip", energy={"bit_operation": 0.0, "accumulate": 0.0, "weight_byte": 0.0, "state_byte": 1.0}
    )
    network = quantized(target=target)
    plan = network.layer_plans
    counts = {layer.name: layer.inputs for layer in network.model.layers}
    bits = {"first": 32, "second": 8, "last": 12}
    steps = {name: layer.time_steps for name, layer in plan.items()}
    spikes = {name: counts[name] * sum(plan[name].spike_bits) for name in plan}
    memory = {
        name: counts[name] * bits[name] / 8 * (2 if steps[name] > 1 else 1) + -(-spikes[name] // 8) for name in plan
    }
    assert network.model.layer_costs("working_memory", plan) == memory
    energy = {name: 2 * (steps[name] * counts[name] * bits[name] + spikes[name]) / 8 for name in plan}
    assert network.model.layer_costs("energy", plan) == pytest.approx(energy)
    # The gradient's cost, and every solver's, is the same.
    cost = network.model.cost_tensor("energy", *network.allocation)
    assert float(cost.detach()) == pytest.approx(sum(energy.values()))
    # A limit of the target binds it.
    widest = max(memory.values())
    small = make_target("small", memory={"working_bytes": int(widest) - 1})
    assert max(network.model.layer_costs("working_memory", quantized(target=small).project()).values()) < widest


def test_spikes_are_no_wider_than_a_pinned_membrane_holds():
    network = quantized()
    assert network.rules.choices["second"].spike_bits.high == 7
    assert network.rules.choices["last"].spike_bits.high == 8
    assert "membrane_bits" in network.rules.origin("second")
    with pytest.raises(InputError, match=r"layer 'first' may get spike_bits 8 by first_layer, .* only 1, .* 7"):
        quantized(layers=["first:membrane_bits=8"])


@pytest.mark.parametrize(
    ("layers", "options", "message"),
    [
        (["last:membrane_bits=7"], {}, "membrane_bits has 7; give widths from 8 to 31"),
        (["last:membrane_bits=32"], {}, "membrane_bits has 32; give widths from 8 to 31"),
        (
            ["last:membrane_bits=16"],
            {"target": make_target("narrow", membrane_bits=12)},
            "'narrow' has membranes of 12",
        ),
        (["last:membrane_bits=16", "last:spike_granularity='step'"], {}, "leave one of them out"),
    ],
)
def test_what_cannot_be_is_one_line(layers, options, message):
    with pytest.raises(InputError, match=message) as caught:
        quantized(layers=layers, **options)
    assert "\n" not in str(caught.value)


def test_a_rule_of_the_target_is_a_limit_and_a_default():
    target = make_target("chip", layers=[{"match": "last", "membrane_bits": 16}])
    assert quantized(target=target, layers=()).layer_plans["last"].membrane_bits == 16
    assert quantized(target=target).layer_plans["last"].membrane_bits == 12
    with pytest.raises(InputError, match="has membranes of 16; give at most that"):
        quantized(target=target, layers=["last:membrane_bits=20"])


def test_layers_of_one_stream_have_one_width():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.left, self.right = nn.Linear(12, 16), nn.Linear(16, 4), nn.Linear(16, 4)

        def forward(self, x):
            x = self.first(x).relu()
            return self.left(x) + self.right(x)

    def tied(*layers):
        return bitsearch.quantize(Two(), inputs(), layers=layers, ties=[TieRule(share="streams")])

    with pytest.raises(InputError, match="give their membranes 12 bits and no width; match both"):
        tied(LayerRule(match="left", membrane_bits=12))
    plans = tied(LayerRule(match=["left", "right"], membrane_bits=12)).layer_plans
    assert plans["left"].membrane_bits == plans["right"].membrane_bits == 12


def test_a_pinned_network_is_another_cost_model_than_one_without():
    network = quantized()
    free = CostModel(network.model.layers)
    assert free.uniform(BITS, None)["second"].membrane_bits is None
    assert network.model.uniform(BITS, None)["second"].membrane_bits == 8
