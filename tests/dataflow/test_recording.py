"""What one recorded forward pass tells of loops, calls, samples and multiply-accumulates."""

import copy
import warnings
from itertools import permutations

import pytest
import torch
from generated import WIDTH, Generated, programs, same_weights
from hypothesis import assume, given
from hypothesis import strategies as st
from profiles import examples
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import bitsearch
from bitsearch.cost.measurement import measure
from bitsearch.cost.tracing import trace
from bitsearch.dataflow.products import layer_macs
from bitsearch.dataflow.recording import record
from bitsearch.errors import InputError
from bitsearch.models import NETWORKS, make_network
from bitsearch.plan import UniformBits

T = 16
WIDE = UniformBits(weight_bits=8, spike_bits=8, time_steps=2)

SMALL = {
    "digits_cnn": ({"width": 2}, (1, 8, 8)),
    "digits_events_cnn": ({"width": 2}, (2, 2, 9, 8)),
    "small_cnn": ({"width": 2}, (1, 8, 8)),
    "resnet20": ({"width": 2}, (3, 8, 8)),
    "resnet18_cifar": ({"width": 2}, (3, 8, 8)),
    "resnet19_dvs": ({"width": 2}, (2, 2, 8, 8)),
    "resnet18": ({}, (3, 32, 32)),
    "resnet34": ({}, (3, 32, 32)),
    "sew_resnet18": ({}, (3, 32, 32)),
    "sew_resnet34": ({}, (3, 32, 32)),
    "spiking_vgg11": ({}, (3, 32, 32)),
    "vggsnn": ({"width": 2}, (2, 2, 16, 16)),
    "spikformer_cifar": ({"width": 24, "depth": 2, "heads": 3}, (3, 8, 8)),
    "shd_mlp": ({"width": 4}, (3, 70)),
    "spiking_mlp": ({"width": 4, "depth": 2}, (3, 70)),
    "recurrent_spiking_mlp": ({"width": 4}, (3, 70)),
}
"""Options and a small input of every network."""
HUGE = {"resnet34", "sew_resnet34", "spiking_vgg11"}
"""Blocks of the smaller ones again, or layers whose weights take seconds to quantize."""
EXHAUSTIVE = [pytest.param(name, marks=[pytest.mark.exhaustive] * (name in HUGE)) for name in sorted(SMALL)]


def shipped(name):
    """(network, a batch of four)."""
    options, shape = SMALL[name]
    torch.manual_seed(0)
    network = make_network(name, options, input_shape=shape, classes=3).eval()
    x = torch.rand(4, *shape)
    return network, x if len(shape) == 3 else x.transpose(0, 1)


def others_moved(network, x, axis=0):
    """True if the output of any sample but the first moves when the first changes."""
    results = []
    for first in (x.select(axis, 0), x.max() + x.min() - x.select(axis, 0)):
        changed = x.clone()
        changed.select(axis, 0).copy_(first)
        functional.reset_net(network)
        with torch.no_grad():
            results.append(network(changed).narrow(axis, 1, x.shape[axis] - 1))
    return not torch.equal(*results)


def test_the_small_inputs_are_those_of_all_networks():
    assert set(SMALL) == set(NETWORKS)


@pytest.mark.parametrize("name", SMALL)
def test_no_shipped_network_mixes_samples(name):
    network, x = shipped(name)
    assert not record(network, x).mixes_samples
    assert not others_moved(network, x, x.dim() - 4 if x.dim() > 3 else 1)


@pytest.mark.filterwarnings("ignore:kept at 32 bits")
@pytest.mark.parametrize("name", EXHAUSTIVE)
def test_no_sample_of_a_shipped_network_moves_with_another_after_conversion(name):
    network, x = shipped(name)
    axis = x.dim() - 4 if x.dim() > 3 else 1
    quantized = bitsearch.quantize(network, x, time_axis=axis == 1).eval()
    for layer_of_all in quantized.layers.values():
        # Any step size will do; the best one of millions of weights takes a search.
        layer_of_all.renew_weights = name not in HUGE
    with torch.no_grad():
        quantized(x)
    assert not others_moved(quantized, x, axis)


def found_layers(network, x):
    """Of a generated network, by step; None where nothing can be quantized."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layers = trace(network, x)
    except InputError:
        return None
    steps = {network.path(step): step for step in network.place}
    return {
        steps[found.name]: (
            *(
                found.macs,
                found.weights,
                found.inputs,
                found.outputs,
                found.signed_input,
                found.first,
                found.fixed_reason,
            ),
            *(found.frames, found.is_static_input, found.loop, found.calls, found.decay),
            {steps[name] for name in found.neurons},
            {steps.get(name, name) for name in found.reads.split(" + ")},
        )
        for found in layers
        if found.name in steps
    }, {steps[name] for name in layers.staying}


@pytest.mark.filterwarnings("ignore:kept at 32 bits")
@examples(60)
@given(programs(), st.permutations(range(8)), st.integers(0, 1000))
def test_the_order_of_registration_does_not_matter(program, order, seed):
    torch.manual_seed(seed)
    x = torch.randn(4, WIDTH)
    inline = Generated(program).eval()
    wanted = found_layers(inline, x)
    for listed in (False, True):
        other = same_weights(inline, Generated(program, order, listed=listed).eval())
        assert found_layers(other, x) == wanted


@pytest.mark.filterwarnings("ignore:kept at 32 bits")
@pytest.mark.filterwarnings("ignore:never called")
@examples(30)
@given(programs(), st.permutations(range(8)), st.integers(0, 1000))
def test_the_order_of_registration_does_not_change_a_logit(program, order, seed):
    torch.manual_seed(seed)
    x = torch.randn(4, WIDTH)
    inline = Generated(program).eval()
    logits = []
    for network in (
        inline,
        same_weights(inline, Generated(program, order).eval()),
        same_weights(inline, Generated(program, order, listed=True).eval()),
    ):
        quantized = bitsearch.quantize(network, x, start=WIDE).eval()
        with torch.no_grad():
            functional.reset_net(quantized)
            quantized(x)
            functional.reset_net(quantized)
            logits.append(quantized(x))
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


@pytest.mark.filterwarnings("ignore:kept at 32 bits")
@pytest.mark.filterwarnings("ignore:never called")
@examples(30)
@given(programs(), st.integers(0, 1000))
def test_no_sample_of_a_generated_network_moves_with_another(program, seed):
    torch.manual_seed(seed)
    network, x = Generated(program).eval(), torch.randn(4, WIDTH)
    # What is not finite is refused.
    assume(network(x).isfinite().all())
    assert not record(network, x).mixes_samples
    quantized = bitsearch.quantize(network, x).eval()
    quantized(x)
    assert not others_moved(quantized, x)


def test_one_shared_activation_is_as_good_as_several():
    class Net(nn.Module):
        def __init__(self, shared):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.c = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)
            self.acts = nn.ModuleList([nn.ReLU()] * 2 if shared else [nn.ReLU(), nn.ReLU()])

        def forward(self, x):
            return self.c(self.acts[1](self.b(self.acts[0](self.a(x)))).mean((2, 3)))

    x = torch.rand(5, 1, 8, 8)
    one, several = (bitsearch.quantize(Net(shared), x).eval() for shared in (True, False))
    assert one.layer_plans == several.layer_plans
    assert torch.equal(one(x), several(x))


class Static(nn.Module):
    """A still image, encoded once a time step in the user's own loop."""

    def __init__(self, steps=T):
        super().__init__()
        self.steps = steps
        self.net = nn.Sequential(
            layer.Conv2d(1, 4, 3, padding=1),
            layer.BatchNorm2d(4),
            nn.ReLU(),
            layer.Conv2d(4, 4, 3, padding=1),
            neuron.LIFNode(),
            layer.Conv2d(4, 4, 3),
            neuron.LIFNode(),
            layer.Flatten(),
            layer.Linear(4 * 16, 10),
        )

    def forward(self, x):
        out = 0
        for _ in range(self.steps):
            out += self.net(x)
        return out / self.steps


def static_layers(steps=T):
    torch.manual_seed(0)
    return {found.name: found for found in trace(Static(steps), torch.rand(4, 1, 6, 6))}


def test_what_a_loop_computes_of_a_still_image_counts_once():
    found = static_layers()
    assert [found[name].macs for name in ("net.0", "net.3")] == [4 * 36 * 9, 4 * 36 * 4 * 9]
    assert [found[name].inputs for name in ("net.0", "net.3")] == [36, 4 * 36]
    assert [found[name].loop for name in ("net.0", "net.3")] == ["same", "same"]
    assert [found[name].frames for name in ("net.0", "net.3")] == [None, None]


def test_what_a_loop_computes_of_spikes_counts_once_a_step():
    found = static_layers()
    assert [found[name].macs for name in ("net.5", "net.8")] == [4 * 16 * 4 * 9, 4 * 16 * 10]
    assert [found[name].loop for name in ("net.5", "net.8")] == ["frames", "frames"]
    assert [found[name].frames for name in ("net.5", "net.8")] == [T, T]


def test_a_loop_costs_what_its_multi_step_twin_costs():
    torch.manual_seed(0)
    x, loop = torch.rand(4, 1, 6, 6), Static(4)
    twin = copy.deepcopy(loop.net)
    functional.set_step_mode(twin, "m")
    one = bitsearch.quantize(loop, x, start=UniformBits(weight_bits=4, spike_bits=4, time_steps=4))
    other = bitsearch.quantize(
        twin, x.expand(4, -1, -1, -1, -1), start=UniformBits(weight_bits=4, spike_bits=4, time_steps=4)
    )
    # A layer before the first neuron takes the steps that the plan gives it, the repeated image included.
    plans = [{name.removeprefix("net."): plan for name, plan in q.layer_plans.items()} for q in (one, other)]
    assert [plans[0][name].time_steps for name in ("5", "8")] == [plans[1][name].time_steps for name in ("5", "8")]
    costs = [q.model.costs(q.layer_plans) for q in (one, other)]
    assert costs[0] == costs[1]


def test_a_loop_of_more_steps_costs_no_more_before_the_first_neuron():
    two, many = static_layers(2), static_layers(16)
    assert [two[name].macs for name in two] == [many[name].macs for name in many]


class Loop(nn.Module):
    def __init__(self, parts):
        super().__init__()
        self.parts = nn.Sequential(*parts)

    def forward(self, x):
        return torch.stack([self.parts(frame) for frame in x])


def bright(*shape):
    """Frames that let every neuron of :func:`spiking_parts` fire now and then."""
    return 40 * torch.rand(shape, generator=torch.Generator().manual_seed(0))


def spiking_parts(seed=0):
    torch.manual_seed(seed)
    return [layer.Linear(6, 8), neuron.LIFNode(), layer.Linear(8, 8), neuron.IFNode(), layer.Linear(8, 3)]


@pytest.mark.parametrize("frames", [2, 5, 8])
def test_a_loop_over_frames(frames):
    found = trace(Loop(spiking_parts()), bright(frames, 3, 6), time_axis=True)
    assert [one.loop for one in found] == ["frames"] * 3
    assert [one.frames for one in found] == [frames] * 3
    assert [one.calls for one in found] == [frames] * 3
    assert [one.macs for one in found] == [48, 64, 24]


@pytest.mark.parametrize("filled", [torch.zeros, torch.ones])
def test_a_loop_over_frames_that_nothing_fires_in(filled):
    # An untrained network may be silent on its example; a trained one is not.
    dark, wanted = (trace(Loop(spiking_parts()), x, time_axis=True) for x in (filled(5, 3, 6), bright(5, 3, 6)))
    assert [(one.loop, one.frames) for one in dark[1:]] == [(one.loop, one.frames) for one in wanted[1:]]


def test_a_loop_over_frames_that_a_neuron_fires_in_each_time():
    torch.manual_seed(0)
    network = Loop([layer.Linear(6, 4), neuron.IFNode(), layer.Linear(4, 3)])
    torch.nn.init.constant_(network.parts[0].weight, 1.0)
    reads = list(trace(network, 2 + torch.rand(5, 3, 6), time_axis=True))[1]
    assert (reads.loop, reads.frames) == ("frames", 5)


def test_a_loop_over_one_frame_is_no_loop():
    found = trace(Loop(spiking_parts()), torch.rand(1, 3, 6), time_axis=True)
    assert [(one.loop, one.frames) for one in found] == [(None, None)] * 3


def test_a_loop_without_neurons_has_no_memory():
    torch.manual_seed(0)
    network = Loop([nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)])
    assert [one.loop for one in trace(network, torch.rand(4, 3, 6), time_axis=True)] == ["shared", "shared"]


class Unrolled(nn.Module):
    """A layer at several places, each with an input of its own."""

    def __init__(self, depth):
        super().__init__()
        self.depth, self.stem, self.again, self.head = depth, nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for _ in range(self.depth):
            x = x + torch.relu(self.again(x))
        return self.head(x)


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_a_layer_at_several_places_counts_at_each(depth):
    torch.manual_seed(0)
    _, again, _ = trace(Unrolled(depth), torch.rand(5, 4))
    assert (again.loop, again.calls, again.frames) == ("shared", depth, None)
    assert (again.macs, again.weights, again.inputs) == (depth * 64, 64, depth * 8)


class Twice(nn.Module):
    """A layer that is called twice a frame."""

    def __init__(self):
        super().__init__()
        self.a, self.lif, self.b = layer.Linear(4, 4), neuron.IFNode(), layer.Linear(4, 4)

    def forward(self, x):
        return torch.stack([self.b(self.lif(self.a(torch.relu(self.a(frame))))) for frame in x])


def test_a_layer_twice_a_frame_is_no_loop_over_frames():
    torch.manual_seed(0)
    a, b = trace(Twice(), torch.rand(3, 2, 4), time_axis=True)
    assert a.loop == "shared"
    assert b.loop == "frames"


def test_an_encoder_that_draws_spikes_is_recorded_alike_each_time():
    class Drawn(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.lif, self.b = layer.Linear(6, 4), neuron.IFNode(), layer.Linear(4, 2)

        def forward(self, x):
            return sum(self.b(self.lif(self.a(torch.bernoulli(x)))) for _ in range(5))

    torch.manual_seed(0)
    network, x = Drawn(), torch.rand(4, 6)
    found = [list(trace(network, x)) for _ in range(2)]
    assert found[0] == found[1]
    assert [(one.loop, one.frames) for one in found[0]] == [("frames", 5), ("frames", 5)]


def test_recording_does_not_move_the_random_generator():
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    record(network, torch.rand(2, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.rand(3), wanted)


def test_states_are_reset_after_a_recording():
    network = Loop(spiking_parts()).eval()
    record(network, 4 * torch.rand(3, 2, 6), time_axis=True)
    assert network.parts[1].v == 0.0


def test_states_are_reset_after_a_recording_that_failed():
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif = neuron.IFNode()

        def forward(self, x):
            self.lif(x)
            raise ValueError("no")

    network = Failing()
    with pytest.raises(ValueError, match="no"):
        record(network, torch.rand(2, 4))
    assert network.lif.v == 0.0


def test_parameters_that_some_operation_took():
    network = Unrolled(2)
    network.spare = nn.Linear(3, 3)
    used = record(network, torch.rand(2, 4)).used
    assert used == {*network.stem.parameters(), *network.again.parameters(), *network.head.parameters()}


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_layers_come_in_the_order_of_their_calls(order):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            for index in order:
                self.add_module("abc"[index], nn.Linear(4, 4))

        def forward(self, x):
            return self.c(self.b(self.a(x)))

    assert [found.name for found in measure(Net(), torch.rand(2, 4))] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (nn.Linear(4, 3), (2, 4), 2 * 12),
        (nn.Linear(4, 3), (2, 5, 4), 2 * 5 * 12),
        (nn.Conv2d(2, 4, 3, padding=1), (2, 2, 5, 5), 2 * 25 * 4 * 2 * 9),
        (nn.Conv1d(4, 4, 3, groups=2), (2, 4, 6), 2 * 4 * 4 * 2 * 3),
        (nn.ConvTranspose2d(4, 2, 2, stride=2), (3, 4, 5, 5), 3 * 4 * 25 * 2 * 4),
        # Of 5 positions × 3 taps at i + 2·k − 2 of 5, those at −2, −1, 5 and 6 are cropped.
        (nn.ConvTranspose1d(4, 2, 3, padding=2, dilation=2), (3, 4, 5), 3 * 4 * 2 * (15 - 4)),
        (nn.RNN(3, 5, batch_first=True), (2, 4, 3), 2 * 4 * (15 + 25)),
        (nn.ReLU(), (2, 4), 0),
    ],
)
def test_products_by_hand(module, shape, macs):
    x = torch.rand(shape)
    assert layer_macs(module, (x,), module(x)) == macs


def test_a_layer_without_a_tensor_has_no_products():
    assert layer_macs(nn.Linear(4, 3), (None,), torch.rand(2, 3)) == 0


@pytest.mark.parametrize("name", sorted(set(SMALL) - HUGE))
def test_the_layer_that_the_network_returns_is_its_head(name):
    options, shape = SMALL[name]
    network = make_network(name, options, input_shape=shape, classes=5)
    frames = len(shape) % 2 == 0
    heads = record(network, torch.rand(2, *shape).transpose(0, int(frames)), time_axis=frames).heads
    assert [getattr(head, "out_features", None) for head in heads] == [5]


def test_a_head_is_what_no_other_layer_reads_on_the_way():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.lif, self.head, self.weight = (
                nn.Linear(3, 4),
                neuron.IFNode(),
                nn.Linear(4, 2),
                nn.Parameter(torch.rand(4, 4)),
            )

        def forward(self, x):
            spikes = self.lif(self.body(x))
            return self.head(spikes), torch.zeros_like(spikes), spikes > 0, spikes @ self.weight

    network = Net()
    assert record(network, torch.rand(2, 3)).heads == {network.head, network.body}
    # Without the comparison of its spikes, nothing of the first layer is returned.
    network.forward = lambda x: network.head(network.lif(network.body(x)))
    assert record(network, torch.rand(2, 3)).heads == {network.head}
