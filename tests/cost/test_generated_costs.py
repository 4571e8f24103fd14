"""All ten metrics of random networks and plans, by formulas of their own, from shapes that the network was made with.

    BITSEARCH_EXAMPLES=1000 HYPOTHESIS_PROFILE=explore pytest -n 0 tests/cost/test_generated_costs.py

tries more than the suite does, and others each time.
"""

import os
import tomllib
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from math import ceil, prod

import pytest
import torch
from generated_networks import Generated, designs, inputs, plans
from hypothesis import assume, given
from hypothesis import strategies as st
from profiles import examples
from spikingjelly.activation_based import neuron
from torch import nn

from bitsearch.cost import CostModel, SpikeStatistics, Target, trace
from bitsearch.errors import InputError

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.filterwarnings("ignore:kept at 32 bits"),
    pytest.mark.filterwarnings("ignore:never called"),
]
EXAMPLES = int(os.environ.get("BITSEARCH_EXAMPLES", "40"))
TABLES = {
    name: tomllib.loads(resources.files("bitsearch").joinpath("cost", "targets", f"{name}.toml").read_text("utf-8"))
    for name in ("binary_fpga", "generic", "neuromorphic", "power_of_two")
}


class Products(nn.Module):
    """Every image of a sample times itself turned."""

    def forward(self, x):
        return x @ x.transpose(-1, -2)


class WithProducts(Generated):
    """A generated network that multiplies what its last convolution made, and adds that up."""

    def __init__(self, design):
        super().__init__(design)
        self.products = Products()

    def head(self, x):
        return super().head(x + self.products(x).mean((-1, -2), keepdim=True))


@dataclass
class Facts:
    """Of a layer, for one input and one frame: counted by hand."""

    macs: int
    weights: int
    inputs: int
    largest_call: int
    outputs: int
    membranes: int
    w: float
    s: float
    """Mean over the time steps."""
    t: int
    rate: float
    synaptic: float
    has_bits: bool

    @property
    def stored(self):
        """Time steps whose spikes are kept at once: what has no bits goes frame by frame."""
        return self.t if self.has_bits else 1

    def weight_memory(self):
        return ceil(self.weights * self.w / 8) + 4 * self.t * self.has_bits + 8 * self.outputs

    def working_memory(self, bits):
        membranes = self.largest_call if self.membranes == self.inputs else self.membranes
        spikes = ceil(round(self.largest_call * self.stored * self.s, 6) / 8)
        return membranes * bits / 8 * (2 if self.stored > 1 else 1) + spikes

    def energy(self, table, bits):
        operation = table.get("bit_operation", 0) * self.w * self.s + table["accumulate"]
        share = self.rate if table["event_driven"] else 1
        states = 2 * self.t * (self.membranes * bits + self.inputs * self.s) / 8
        read = table.get("weight_byte", 0) * ceil(self.weights * self.w / 8)
        return share * self.macs * self.t * operation + read + table.get("state_byte", 0) * states


def facts_of(network, plan, excluded, activity):
    """Facts by layer, in the order they run."""
    calls, facts, counted_neurons = network.calls(), {}, set()
    frames = network.design.frames or 1
    for path, runs in calls.items():
        module = network.get_submodule(path)
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        sizes = [prod(shape) for _, shape, _ in runs]
        fan_in = module.weight[0].numel()
        layer = plan.get(path)
        assert (layer is None) == (path in excluded)
        membranes = sum(sizes)
        if layer is not None and layer.in_place:
            membranes = sum(prod(calls[name][0][1]) for name in set(layer.neurons) - counted_neurons)
            counted_neurons |= set(layer.neurons)
        facts[path] = Facts(
            macs=sum(prod(result) * fan_in for *_, result in runs),
            weights=module.weight.numel(),
            inputs=sum(sizes),
            largest_call=max(sizes),
            outputs=len(module.weight),
            membranes=membranes,
            w=32 if layer is None else layer.weight_bits,
            s=32 if layer is None else sum(layer.spike_bits) / len(layer.spike_bits),
            t=frames if layer is None else len(layer.spike_bits),
            rate=activity.firing_rate.get(path, 1.0),
            synaptic=activity.synaptic_rate.get(path, 1.0),
            has_bits=layer is not None,
        )
    if isinstance(network, WithProducts):
        channels, height, width = network.made[-1].shape
        size, macs = channels * height * width, channels * height * height * width
        # Of spikes, by spikes: one bit each.
        width = 1 if _spikes(network, len(network.made) - 1) else 32
        facts["products"] = Facts(macs, 0, size, size, 0, size, width, width, frames, 1.0, 1.0, has_bits=False)
    return facts


def _spikes(network, index):
    """True if a tensor holds the zeros and ones of neurons as they sent them; what is pooled is any number."""
    one = network.made[index]
    module = network.get_submodule(one.paths[0]) if one.paths else None
    if one.operation == "concatenate" or isinstance(module, nn.ReLU):
        return all(_spikes(network, read) for read in one.reads)
    return isinstance(module, neuron.BaseNode)


def expected_costs(facts, table, counted):
    """Every metric that a target has."""
    every, bits = list(facts.values()), table.get("membrane_bits", 32)
    some = [facts[name] for name in counted]
    operations = sum(one.macs * one.w * one.s * one.t for one in some)
    weights, spikes = sum(one.weights for one in some), sum(one.inputs for one in some)
    means = (
        sum(one.w * one.weights for one in some) / weights,
        sum(one.s * one.inputs for one in some) / spikes,
        sum(one.t * one.inputs for one in some) / spikes,
    )
    costs = {
        "bit_budget": prod(means),
        "bit_budget_mac": operations / sum(one.macs for one in some),
        "s_ace": operations,
        "ns_ace": sum(one.macs * one.w * one.s * one.t * one.rate for one in some),
        "synops": sum(one.macs * one.t * one.synaptic for one in some),
        "weight_memory": sum(one.weight_memory() for one in every),
        "working_memory": max(one.working_memory(bits) for one in every),
    }
    if "energy" in table:
        costs["energy"] = sum(one.energy(table["energy"], bits) for one in every)
    if "latency" in table:
        per_cycle = table["latency"]["bit_operations_per_cycle"]
        cycles = sum(one.macs * one.t * one.w * one.s / per_cycle for one in every)
        costs["latency"] = cycles / table["latency"]["clock"]
    if "cores" in table:
        size = table["cores"]["bytes_each"]
        costs["cores"] = sum(ceil((one.weight_memory() + one.working_memory(bits)) / size) for one in every)
    return costs


@torch.no_grad()
def repeats_itself(network, x):
    """True if a layer gets the same values twice, which counts once."""
    seen, hooks = {}, []
    for path, runs in network.calls().items():
        if len(runs) > 1:
            module = network.get_submodule(path)
            hooks.append(module.register_forward_hook(lambda m, args, _: seen.setdefault(m, []).append(args[0])))
    network(x)
    for hook in hooks:
        hook.remove()
    same = [torch.equal(a, b) for values in seen.values() for a, b in pairwise(values)]
    return any(same)


@examples(EXAMPLES)
@given(st.data(), designs(signed=True), st.booleans(), st.booleans())
def test_ten_metrics_are_what_shapes_and_bits_come_to(data, design, products, first_counted):
    network = (WithProducts if products else Generated)(design).eval()
    layers = [path for path in network.calls() if isinstance(network.get_submodule(path), nn.Conv2d)]
    excluded = data.draw(st.lists(st.sampled_from([*layers, "classifier"]), max_size=len(layers), unique=True))
    x = inputs(design, 6)
    assume(not repeats_itself(network, x))
    geometry = trace(network, x, time_axis=design.framed, exclude=excluded)
    plan = data.draw(plans(CostModel(geometry)))
    shares = st.floats(0, 1)
    activity = SpikeStatistics(*({name: data.draw(shares) for name in plan} for _ in range(2)))
    facts = facts_of(network, plan, excluded, activity)
    counted = [name for index, name in enumerate(facts) if first_counted or index > 0]
    if not set(counted) & set(plan):
        with pytest.raises(InputError, match="no layer is left to count"):
            CostModel(geometry, first_layer_counted=False)
        return
    for name, table in TABLES.items():
        model = CostModel(geometry, first_layer_counted=first_counted, target=Target.load(name))
        costs, expected = model.costs(plan, activity), expected_costs(facts, table, counted)
        assert costs.keys() == expected.keys()
        for metric, cost in costs.items():
            assert cost == pytest.approx(expected[metric], rel=1e-12), (name, metric)
