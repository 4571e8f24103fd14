"""Which of a network's neurons give way to which layer's own, with which decay, and why the others stay."""

from itertools import permutations

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import bitsearch
from bitsearch.choices import FirstLayer
from bitsearch.cost import CostModel
from bitsearch.cost.tracing import trace
from bitsearch.plan import UniformBits

T = 8
EIGHT = UniformBits(weight_bits=8, spike_bits=8, time_steps=4)


def frames(*shape):
    return 6 * torch.rand(T, 32, *shape, generator=torch.Generator().manual_seed(1))


def in_front_of(network, x):
    """By layer, the neurons that give way to its own."""
    return {found.name: found.neurons for found in trace(network, x, time_axis=True) if found.fixed_reason is None}


def decays(network, x):
    return {found.name: found.decay for found in trace(network, x, time_axis=True) if found.fixed_reason is None}


def reasons(network, x, **options):
    return dict(trace(network, x, time_axis=True, **options).staying)


class Chain(nn.Module):
    """Three layers and two neurons, registered in any order."""

    def __init__(self, order=("a", "lif1", "b", "lif2", "c")):
        super().__init__()
        torch.manual_seed(0)
        parts = {"a": layer.Linear(8, 32), "b": layer.Linear(32, 32), "c": layer.Linear(32, 4)}
        parts |= {"lif1": neuron.LIFNode(tau=2.0), "lif2": neuron.LIFNode(tau=5.0)}
        for name in order:
            self.add_module(name, parts[name])
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.c(self.lif2(self.b(self.lif1(self.a(x)))))


ORDERS = list(permutations(("a", "b", "c", "lif1", "lif2")))[::11]


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_neurons_give_way_however_they_are_registered(order):
    assert in_front_of(Chain(order), frames(8)) == {"a": (), "b": ("lif1",), "c": ("lif2",)}
    assert decays(Chain(order), frames(8)) == {"a": None, "b": 0.5, "c": 0.8}


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_logits_are_the_same_however_neurons_are_registered(order):
    x = frames(8)
    one, other = (bitsearch.quantize(network, x, time_axis=True).eval() for network in (Chain(), Chain(order)))
    assert torch.equal(one(x), other(x))


def test_neurons_registered_last_become_refined_ones():
    quantized = bitsearch.quantize(Chain(("a", "b", "c", "lif1", "lif2")), frames(8), time_axis=True)
    became = {row.name: row.became for row in quantized.conversion if row.kind == "LIFNode"}
    assert became == {"lif1": "the refined neuron of b", "lif2": "the refined neuron of c"}


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.fast = layer.Linear(8, 16), neuron.LIFNode(tau=2.0)
        self.b, self.slow = layer.Linear(16, 16), neuron.LIFNode(tau=10.0)
        self.c, self.d = layer.Linear(16, 4), layer.Linear(16, 4)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        fast = self.fast(self.a(x))
        slow = self.slow(self.b(fast))
        return self.d(slow) + self.c(fast)


def test_a_layer_decays_like_the_neuron_that_it_reads():
    assert decays(Skip(), frames(8)) == {"a": None, "b": 0.5, "d": 0.9, "c": 0.5}
    assert in_front_of(Skip(), frames(8)) == {"a": (), "b": ("fast",), "d": ("slow",), "c": ("fast",)}


class Read(nn.Module):
    """A layer, a neuron, and what is made of its spikes; another neuron and another layer for that."""

    def __init__(self, made):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.lif, self.made = layer.Linear(4, 4), neuron.LIFNode(), made
        self.other, self.later = neuron.LIFNode(), layer.Linear(4, 4)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.made(self, self.lif(self.a(x)), x)


def staying(made):
    return reasons(Read(made), frames(4)).get("lif")


@pytest.mark.filterwarnings("ignore:never called")
@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda n, s, x: n.later(s), None),
        (lambda n, s, x: n.later(s.flip(-1)), None),
        (lambda n, s, x: n.later(s) + n.later(s), None),
        (lambda n, s, x: (n.later(s), s)[1], "the network returns its spikes"),
        (lambda n, s, x: n.later(s) + s, "the network returns its spikes"),
        (lambda n, s, x: n.later(n.other(s)), "other reads its spikes"),
        (lambda n, s, x: n.later(s.sigmoid()), "sigmoid in the network reads its spikes"),
        (lambda n, s, x: n.later(s + x), "later reads its spikes together with other values"),
        (lambda n, s, x: n.later(1 - s), "later reads its spikes together with other values"),
        (lambda n, s, x: n.later(s - s.flip(-1)), "later reads a difference of its spikes"),
        (lambda n, s, x: n.later(s.mean(0)), "later reads its spikes over time at once"),
        (lambda n, s, x: n.later(x), "nothing reads its spikes"),
    ],
)
def test_why_a_neuron_stays(made, reason):
    assert staying(made) == reason


@pytest.mark.filterwarnings("ignore:never called")
def test_a_neuron_stays_where_only_some_readers_are_layers():
    assert staying(lambda n, s, x: n.later(s) + s.sigmoid()) == "sigmoid in the network reads its spikes"


@pytest.mark.filterwarnings("ignore:never called")
def test_a_neuron_stays_in_front_of_an_excluded_layer():
    network = Read(lambda n, s, x: n.later(s))
    assert reasons(network, frames(4), exclude=["later"])["lif"] == "later reads its spikes and keeps 32 bits"


@pytest.mark.filterwarnings("ignore:kept at 32 bits")
def test_a_neuron_stays_in_front_of_a_norm():
    network = nn.Sequential(layer.Linear(4, 4), neuron.LIFNode(), layer.BatchNorm1d(4), layer.Linear(4, 4))
    functional.set_step_mode(network, "m")
    assert reasons(network, frames(4)) == {"1": "native_batch_norm in 2 reads its spikes"}


class Two(nn.Module):
    """A layer that reads two neurons at once."""

    def __init__(self, one, two, joined):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = layer.Linear(4, 4), layer.Linear(4, 4)
        self.one, self.two, self.joined = one, two, joined
        self.c = layer.Linear(4, 3)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.c(self.joined(self.one(self.a(x)), self.two(self.b(x))))


JOINED = {
    "sum": lambda s, t: s + t,
    "beside": lambda s, t: torch.cat([s[..., :2], t[..., 2:]], -1),
    "in place": lambda s, t: torch.zeros_like(s).add_(s).add_(t),
    "mean": lambda s, t: torch.stack([s, t]).mean(0),
}


@pytest.mark.parametrize("joined", JOINED.values(), ids=JOINED)
def test_neurons_of_one_decay_that_a_layer_reads_together_give_way_together(joined):
    network = Two(neuron.LIFNode(tau=4.0), neuron.LIFNode(tau=4.0), joined)
    assert in_front_of(network, frames(4))["c"] == ("one", "two")
    assert decays(network, frames(4))["c"] == 0.75


@pytest.mark.parametrize("joined", JOINED.values(), ids=JOINED)
def test_neurons_of_different_decays_that_a_layer_reads_together_stay(joined):
    network = Two(neuron.LIFNode(tau=4.0), neuron.LIFNode(tau=2.0), joined)
    assert in_front_of(network, frames(4))["c"] == ()
    found = reasons(network, frames(4))
    assert set(found) == {"one", "two"}
    assert found["one"] == "c reads spikes of neurons with different decays"


def test_neurons_of_different_resets_that_a_layer_reads_together_stay():
    network = Two(neuron.LIFNode(tau=4.0), neuron.LIFNode(tau=4.0, v_reset=None), JOINED["sum"])
    assert in_front_of(network, frames(4))["c"] == ()
    assert reasons(network, frames(4))["one"] == "c reads spikes of neurons with different resets or thresholds"


def test_a_neuron_that_starts_elsewhere_than_at_its_reset_stays():
    network = Two(neuron.SimpleIFNode(v_reset=-0.5), neuron.SimpleIFNode(v_reset=-0.5), JOINED["sum"])
    assert reasons(network, frames(4))["one"] == "its membrane starts at 0 and is reset to -0.5"


def test_what_reads_the_spikes_of_neurons_that_stay_has_no_memory():
    network = Two(neuron.LIFNode(tau=4.0), neuron.LIFNode(tau=2.0), JOINED["sum"])
    assert decays(network, frames(4))["c"] == 0.0


def test_a_neuron_stays_with_one_that_stays():
    class Net(Two):
        def forward(self, x):
            one, two = self.one(self.a(x)), self.two(self.b(x))
            return self.c(one + two) + one.exp()[..., :3]

    network = Net(neuron.LIFNode(), neuron.LIFNode(), None)
    assert reasons(network, frames(4)) == {
        "one": "exp in the network reads its spikes",
        "two": "c reads its spikes together with those of one",
    }


class Deconvolution(layer.ConvTranspose2d):
    """A subclass may compute anything."""


class Vanished(nn.Module):
    """What reads the spikes is no quantized layer."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.seen = kind, []
        self.a, self.lif = layer.Conv2d(1, 4, 3, padding=1), neuron.IFNode()
        self.up, self.fc = Deconvolution(4, 4, 2, stride=2), layer.Linear(4, 4)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        x = self.lif(self.a(x))
        self.seen[:] = x.unique().tolist()
        if self.kind == "deconvolution":
            return self.fc(self.up(x).mean((3, 4)))
        return self.fc((x.flatten(3) @ x.flatten(3).transpose(-1, -2)).mean(-1))


@pytest.mark.filterwarnings("ignore:kept at 32 bits")
@pytest.mark.filterwarnings("ignore:never called")
@pytest.mark.parametrize("kind", ["deconvolution", "product"])
def test_what_keeps_32_bits_goes_on_getting_spikes(kind):
    network, x = Vanished(kind).eval(), 4 * torch.rand(4, 32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network(x)
    assert network.seen == [0.0, 1.0]
    functional.reset_net(network)
    quantized = bitsearch.quantize(network, x, time_axis=True).eval()
    quantized(x)
    assert quantized.network.seen == [0.0, 1.0]
    assert [row.became for row in quantized.conversion if row.name == "lif"] == ["left"]


class Rezero(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 4)
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        x = torch.relu(self.a(x))
        return self.c(x + self.alpha * self.b(x))


def test_signs_do_not_depend_on_how_far_a_network_is_trained():
    torch.manual_seed(0)
    fresh, trained = Rezero(), Rezero()
    trained.alpha.data.fill_(1.5)
    signs = [[found.signed_input for found in trace(network, torch.randn(32, 8))] for network in (fresh, trained)]
    assert signs == [[True, False, True]] * 2


def test_a_branch_that_starts_at_zero_is_quantized_as_if_it_were_trained():
    torch.manual_seed(0)
    fresh, trained, x = Rezero(), Rezero(), torch.randn(256, 8)
    trained.alpha.data.fill_(1.5)
    first = FirstLayer(weight_bits=8, spike_bits=8, time_steps=4)
    quantized = bitsearch.quantize(fresh, x[:32], start=EIGHT, first_layer=first).eval()
    quantized.network.load_state_dict(trained.state_dict(), strict=False)
    quantized(x)
    error = (trained(x) - quantized(x)).norm() / trained(x).norm()
    # 0.005; where c is unsigned, 0.3.
    assert error < 0.01


def framed_network():
    network = nn.Sequential(layer.Linear(8, 16), neuron.LIFNode(), layer.Linear(16, 4))
    functional.set_step_mode(network, "m")
    return network


@pytest.mark.parametrize("count", [64, 65, 1000])
def test_any_number_of_frames(count):
    x = torch.rand(count, 2, 8)
    quantized = bitsearch.quantize(framed_network(), x, time_axis=True).eval()
    assert {plan.frames for plan in quantized.layer_plans.values()} == {count}
    assert quantized(x).shape == (count, 2, 4)


class Loop(nn.Module):
    """Single-step modules, once a frame."""

    def __init__(self, made):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.lif, self.b, self.c = layer.Linear(4, 4), neuron.LIFNode(), layer.Linear(4, 4), layer.Linear(4, 2)
        self.made = made

    def forward(self, x):
        return torch.stack([self.made(self, self.lif(self.a(frame))) for frame in x])


def test_neurons_in_a_loop_give_way():
    network = Loop(lambda n, s: n.c(n.b(s).relu()))
    assert in_front_of(network, frames(4)) == {"a": (), "b": ("lif",), "c": ()}
    assert decays(network, frames(4)) == {"a": None, "b": 0.5, "c": None}


@pytest.mark.filterwarnings("ignore:never called")
def test_spikes_collected_in_a_loop_are_read_over_time_at_once():
    class Collected(Loop):
        def forward(self, x):
            return self.b(sum(self.lif(self.a(frame)) for frame in x))

    network = Collected(None)
    assert reasons(network, frames(4)) == {"lif": "b reads its spikes over time at once"}


@pytest.mark.filterwarnings("ignore:never called")
def test_spikes_of_the_frame_before_are_spikes_too():
    class Recurrent(Loop):
        def forward(self, x):
            spikes, out = x.new_zeros(x.shape[1], 4), []
            for frame in x:
                spikes = self.lif(self.a(frame) + self.b(spikes))
                out.append(self.c(spikes))
            return torch.stack(out)

    network = Recurrent(None)
    assert in_front_of(network, frames(4)) == {"a": (), "b": ("lif",), "c": ("lif",)}
    assert reasons(network, frames(4)) == {}


class Tied(Loop):
    """A layer for what a neuron sends and for what another one makes of that, in every frame: two of one weight."""

    def __init__(self):
        super().__init__(None)
        self.lif2, self.again = neuron.LIFNode(), layer.Linear(4, 4)
        self.again.weight, self.again.bias = self.b.weight, self.b.bias

    def forward(self, x):
        return torch.stack([self.c(self.again(self.lif2(self.b(self.lif(self.a(frame)))))) for frame in x])


class CalledTwice(Tied):
    """The same with one layer."""

    def forward(self, x):
        return torch.stack([self.c(self.b(self.lif2(self.b(self.lif(self.a(frame)))))) for frame in x])


@pytest.mark.filterwarnings("ignore:kept at 32 bits")
@pytest.mark.filterwarnings("ignore:never called")
def test_a_layer_called_twice_a_frame_is_told_and_two_of_one_weight_are_the_way_out():
    why = "a loop calls b 2 times a frame; give each call a layer of its own, of one weight"
    assert reasons(CalledTwice(), frames(4)) == {"lif": why, "lif2": why}
    assert reasons(Tied(), frames(4)) == {}
    assert in_front_of(Tied(), frames(4)) == {"a": (), "b": ("lif",), "again": ("lif2",), "c": ()}
    functional.reset_net(network := Tied())
    expected = network(frames(4))
    functional.reset_net(network := CalledTwice())
    assert torch.equal(network(frames(4)), expected)


def test_a_neuron_called_twice_a_frame_is_no_neuron_of_one_layer():
    class Twice(Loop):
        def forward(self, x):
            return torch.stack([self.c(self.lif(self.b(self.lif(self.a(frame))))) for frame in x])

    quantized = bitsearch.quantize(Twice(None), frames(4), time_axis=True)
    # Its membrane takes what a and b hand it in turn: two refined neurons with one each are another network.
    assert type(quantized.network.lif) is neuron.LIFNode


def test_a_shared_neuron_under_two_names_gives_way_under_both():
    lif = neuron.IFNode()
    holder = nn.ModuleDict({"net": nn.Sequential(layer.Linear(4, 4), lif, layer.Linear(4, 4)), "also": lif})

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = holder
            functional.set_step_mode(self, "m")

        def forward(self, x):
            return self.parts["net"](x)

    quantized = bitsearch.quantize(Net(), frames(4), time_axis=True)
    assert type(quantized.network.parts["also"]) is type(quantized.network.parts["net"][1])
    assert type(quantized.network.parts["also"]) is not neuron.IFNode


def test_what_a_layer_reads_is_told_in_words():
    network = Two(neuron.LIFNode(), neuron.LIFNode(), lambda s, t: s + t)
    reads = {found.name: found.reads for found in trace(network, frames(4), time_axis=True)}
    assert reads == {"a": "", "b": "", "c": "one + two"}
    network = Read(lambda n, s, x: n.later(s + x))
    reads = {found.name: found.reads for found in trace(network, frames(4), time_axis=True)}
    assert reads["later"] == "lif + other values"


def multi_step(*modules):
    network = nn.Sequential(*modules)
    functional.set_step_mode(network, "m")
    return network


def test_decays_that_were_learned_are_those_of_the_plans():
    network = multi_step(layer.Linear(8, 4), neuron.ParametricLIFNode(init_tau=4.0), layer.Linear(4, 2))
    model = CostModel(trace(network, torch.rand(3, 5, 8), time_axis=True))
    bits = UniformBits(weight_bits=4, spike_bits=2, time_steps=2)
    assert model.uniform(bits, None)["2"].decay == pytest.approx(0.75)
    with torch.no_grad():
        network[1].w.fill_(0.0)
    model.read_decays(network)
    assert model.uniform(bits, None)["2"].decay == 0.5
    assert model.uniform(bits, None)["0"].decay == 1.0
    assert model.uniform(bits, None, decay=0.25)["2"].decay == 0.25


def test_neurons_that_learn_their_decays_and_are_read_together_stay():
    network = ReadTogether(lambda: neuron.ParametricLIFNode(init_tau=2.0))
    geometry = trace(network, torch.rand(3, 5, 8), time_axis=True)
    assert geometry.staying["one"] == "c reads spikes of several neurons that learn their decays"
    assert geometry[2].neurons == ()


class ReadTogether(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.a, self.one, self.b, self.other = layer.Linear(8, 4), make(), layer.Linear(8, 4), make()
        self.c = layer.Linear(4, 2)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.c(self.one(self.a(x)) + self.other(self.b(x)))


def test_a_neuron_with_a_hook_stays():
    network = multi_step(layer.Linear(8, 4), neuron.IFNode(), layer.Linear(4, 2))
    network[1].register_forward_hook(lambda module, args, output: -output)
    geometry = trace(network, torch.rand(3, 5, 8), time_axis=True)
    assert geometry.staying == {"1": "a hook may change what it sends"}
    assert geometry[1].signed_input
