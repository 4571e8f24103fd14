"""Which neurons fire where the network has them, which move to the layer that reads them, and what both cost."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from tolerances import FLOAT64
from torch import nn

import bitsearch
from bitsearch.cost import CostModel
from bitsearch.cost.ties import ties_of
from bitsearch.cost.tracing import trace
from bitsearch.plan import UniformBits

T = 4


def frames(*shape):
    return 2 * torch.rand(T, 6, *shape, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """A convolution, a neuron, something between, and layers that read it."""

    def __init__(self, between):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.one = layer.Conv2d(2, 4, 3, padding=1), neuron.IFNode()
        self.b, self.two = layer.Conv2d(2, 4, 1), neuron.IFNode()
        self.c, self.d = layer.Conv2d(4, 3, 2), layer.Conv2d(4, 3, 2)
        self.pool, self.flatten = layer.MaxPool2d(2), layer.Flatten()
        self.between = between
        functional.set_step_mode(self, "m")

    def forward(self, x):
        self.x = x
        return self.between(self, self.one(self.a(x)), lambda: self.two(self.b(x)))


NETWORKS = {
    "pooling": (lambda n, s, t: n.c(n.pool(s)), {"c": ("one",)}),
    "reshape": (lambda n, s, t: n.c(s.flatten(0, 1).unflatten(0, s.shape[:2])), {}),
    "sum": (lambda n, s, t: n.c(s + t()), {"c": ("one", "two")}),
    "concatenation": (lambda n, s, t: n.c(torch.cat([s[:, :, :2], t()[:, :, 2:]], 2)), {}),
    "concatenation of pooled ones": (
        lambda n, s, t: n.c(torch.cat([n.pool(s)[:, :, :2], n.pool(t())[:, :, 2:]], 2)),
        {"c": ("one", "two")},
    ),
    "scaling": (lambda n, s, t: n.c(0.5 * s), {"c": ("one",)}),
    "a neuron each": (lambda n, s, t: n.c(n.pool(s)) + n.d(t())[..., :3, :3], {"c": ("one",)}),
}


@pytest.mark.filterwarnings("ignore:never called")
@pytest.mark.parametrize("name", NETWORKS)
def test_neurons_fire_in_front_of_what_pools_or_adds_up_their_spikes(name):
    between, expected = NETWORKS[name]
    layers = [found for found in trace(Net(between), frames(2, 8, 8), time_axis=True) if found.fixed_reason is None]
    assert {found.name: found.neurons for found in layers if found.in_place} == expected
    assert {found.name for found in layers if found.membranes is not None} == set(expected)


SHARED = {
    "two layers": lambda n, s, t: n.c(n.pool(s)) + n.d(n.pool(s)),
    "pooled and not": lambda n, s, t: n.c(n.pool(s)) + n.pool(n.d(s))[..., :3, :3],
    "by way of another neuron": lambda n, s, t: n.c(s + t())[..., :3, :3] + n.d(n.pool(s)),
}


@pytest.mark.filterwarnings("ignore:never called")
@pytest.mark.parametrize("name", SHARED)
def test_layers_that_read_one_neuron_in_its_place_are_tied(name):
    geometry = trace(Net(SHARED[name]), frames(2, 8, 8), time_axis=True)
    layers = {found.name: found for found in geometry if found.in_place}
    assert set(layers) == {"c", "d"}
    assert sorted(found.stream_of is None for found in layers.values()) == [False, True]
    (tie,) = ties_of([found for found in geometry if found.fixed_reason is None])
    assert (set(tie.layers), tie.share) == ({"c", "d"}, {"spike_bits", "time_steps"})
    # Every neuron once, at the first layer that reads it.
    neurons = 2 if name == "by way of another neuron" else 1
    assert sum(found.membranes for found in layers.values()) == neurons * 4 * 64


@pytest.mark.filterwarnings("ignore:never called")
def test_tied_layers_learn_one_number_of_spike_bits():
    quantized = bitsearch.quantize(Net(SHARED["two layers"]), frames(2, 8, 8), time_axis=True)
    c, d = (quantized.layers[name] for name in ("c", "d"))
    assert c.spike_latent is d.spike_latent
    assert c.time_latent is d.time_latent
    assert c.weight_latent is not d.weight_latent
    with torch.no_grad():
        c.spike_latent.fill_(7.0)
        c.time_latent.fill_(3.0)
    quantized.train()(frames(2, 8, 8)).sum().backward()
    plans = quantized.layer_plans
    assert plans["c"].spike_bits == plans["d"].spike_bits == (7, 7, 7)
    plan = quantized.project("s_ace=1300000")
    assert plan["c"].spike_bits == plan["d"].spike_bits
    quantized.eval()(frames(2, 8, 8))


@pytest.mark.filterwarnings("ignore:never called")
def test_a_neuron_stays_where_a_layer_reads_other_values_too():
    network = Net(lambda n, s, t: n.c(n.pool(s)) + n.c(n.pool(n.b(n.x).relu())))
    quantized = bitsearch.quantize(network, frames(2, 8, 8), time_axis=True)
    assert not any(plan.in_place for plan in quantized.layer_plans.values())
    (row,) = (row for row in quantized.conversion if row.name == "one")
    assert (row.became, row.why) == ("left", "c reads other values elsewhere")
    quantized(frames(2, 8, 8))


@pytest.mark.filterwarnings("ignore:never called")
def test_a_neuron_stays_where_its_layer_reads_values_below_zero_too():
    network = Net(lambda n, s, t: n.c(n.pool(s)) + n.c(n.pool(n.b(n.x))))
    quantized = bitsearch.quantize(network, frames(2, 8, 8), time_axis=True)
    (row,) = (row for row in quantized.conversion if row.name == "one")
    assert (row.became, row.why) == ("left", "c reads values below zero elsewhere")
    quantized(frames(2, 8, 8))


@pytest.mark.filterwarnings("ignore:never called")
def test_a_neuron_stays_where_the_first_layer_reads_its_pooled_spikes_too():
    class Encoded(Net):
        def forward(self, x):
            spikes = self.one(x)
            return self.c(self.pool(spikes)) + self.d(self.pool(spikes))

    network = Encoded(None)
    network.c, network.d = layer.Conv2d(2, 3, 2, step_mode="m"), layer.Conv2d(2, 3, 2, step_mode="m")
    geometry = trace(network, frames(2, 8, 8), time_axis=True)
    assert not any(found.in_place for found in geometry)
    assert geometry.staying["one"] == "c reads its spikes too, with bits of its own as the first layer"


@pytest.mark.filterwarnings("ignore:never called")
def test_the_table_says_where_a_neuron_fires():
    quantized = bitsearch.quantize(Net(NETWORKS["pooling"][0]), frames(2, 8, 8), time_axis=True)
    (row,) = (row for row in quantized.conversion if row.name == "one")
    assert row.became == "the refined neuron of c"
    assert row.why.endswith("where it was, in front of what works on its spikes")
    assert quantized.layer_plans["c"].in_place
    assert quantized.layer_plans["a"].in_place is None


@pytest.mark.filterwarnings("ignore:never called")
@pytest.mark.parametrize(
    ("name", "membranes"), [("pooling", 4 * 64), ("sum", 2 * 4 * 64), ("concatenation of pooled ones", 2 * 4 * 64)]
)
def test_membranes_are_counted_where_the_neurons_are(name, membranes):
    between, _ = NETWORKS[name]
    model = CostModel(trace(Net(between), frames(2, 8, 8), time_axis=True))
    (reader,) = (found for found in model.layers if found.name == "c")
    assert reader.membranes == membranes
    plan = model.uniform(UniformBits(weight_bits=4, spike_bits=2, time_steps=2), None)
    # Currents and potentials of 32 bits, and two steps of 2-bit spikes of what the layer reads.
    bytes_needed = 2 * 4 * membranes + reader.inputs * 4 // 8
    assert model.layer_costs("working_memory", plan)["c"] == bytes_needed
    assert model.layer_costs("s_ace", plan)["c"] == reader.macs * 4 * 2 * 2


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.one, self.pool = nn.Conv2d(2, 4, 3, padding=1), neuron.IFNode(), nn.MaxPool2d(2)
        self.c, self.two, self.d = nn.Conv2d(4, 3, 2), neuron.IFNode(), nn.Linear(27, 5)

    def forward(self, x):
        return torch.stack([self.d(self.two(self.c(self.pool(self.one(self.a(frame))))).flatten(1)) for frame in x])


def test_in_a_loop_over_frames_too():
    geometry = {found.name: found for found in trace(Loop(), frames(2, 8, 8), time_axis=True)}
    assert (geometry["c"].in_place, geometry["c"].loop, geometry["c"].membranes) == (True, "frames", 4 * 64)
    assert not geometry["d"].in_place
    quantized = bitsearch.quantize(Loop(), frames(2, 8, 8), time_axis=True)
    first, second = (quantized(frames(2, 8, 8)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("spike_bits", [1, 3])
def test_activity_is_that_of_the_spikes_that_arrive(spike_bits):
    network = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1),
        neuron.IFNode(),
        layer.AvgPool2d(2),
        layer.Conv2d(4, 3, 3, padding=1),
        layer.Flatten(),
    )
    functional.set_step_mode(network, "m")
    start = UniformBits(weight_bits=4, spike_bits=spike_bits, time_steps=2)
    quantized = bitsearch.quantize(network, frames(2, 8, 8), time_axis=True, start=start).eval()
    quantized(frames(2, 8, 8))
    arrived = []
    hook = quantized.layers["3"].register_forward_pre_hook(lambda _, args: arrived.append(args[0]))
    activity = bitsearch.measure_activity(quantized, frames(2, 8, 8))
    hook.remove()
    # Two time steps of two frames each, which show the same.
    assert torch.equal(arrived[0][0], arrived[0][1])
    nonzero = (arrived[0][::2] != 0).double()
    assert activity.firing_rate["3"] == pytest.approx(nonzero.mean().item(), rel=FLOAT64)
    reached = nn.functional.conv2d(nonzero.flatten(0, 1), torch.ones(1, 4, 3, 3, dtype=torch.float64), padding=1)
    macs = quantized.model.layers[1].macs
    assert activity.synaptic_rate["3"] == pytest.approx(3 * reached.sum().item() / (12 * macs), rel=FLOAT64)
    assert 0 < activity.synaptic_rate["3"] < activity.firing_rate["3"] < 1
    assert all(each.arrival_observer is None for each in quantized.layers.values())
