"""What is said of a layer's input is true whatever the input and the parameters are."""

from itertools import product

import pytest
import torch
from generated import OPERATIONS, Generated, programs, redraw
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from torch.nn import functional as F

from bitsearch.dataflow.recording import record
from bitsearch.frameworks.neurons import is_neuron

BATCH = 4


class Between(nn.Module):
    """A layer, a neuron, and a layer that reads what ``made`` makes of them."""

    def __init__(self, made):
        super().__init__()
        self.first, self.lif, self.reader = nn.Linear(4, 4), neuron.IFNode(), nn.Linear(4, 4)
        self.vector, self.number = nn.Parameter(torch.rand(4)), nn.Parameter(torch.rand(()))
        self.register_buffer("signs", torch.tensor([1, -1, 1, -1]))
        self.made = made

    def forward(self, x):
        return self.reader(self.made(self, x))


def positive(network, x):
    """Nowhere below zero, and no spike."""
    return torch.relu(network.first(x))


def spikes(network, x):
    return network.lif(network.first(x))


def origin(made, example=None):
    """Of the reader's input."""
    torch.manual_seed(0)
    network = Between(made)
    (call,) = record(network, torch.rand(BATCH, 4) if example is None else example).calls[network.reader]
    return call.origin


@torch.no_grad()
def least_input(made):
    """Of the reader, for many inputs and parameters."""
    generator = torch.Generator().manual_seed(0)
    network, seen = Between(made).eval(), []
    network.reader.register_forward_pre_hook(lambda _, args: seen.append(args[0].min().item()))
    for _ in range(20):
        redraw(network, generator)
        functional.reset_net(network)
        network(4 * torch.rand(BATCH, 4, generator=generator))
    return min(seen)


def changed_base(network, x):
    base = positive(network, x).clone()
    shown = base[:, :]
    base.sub_(1)
    return shown


def changed_alias(network, x):
    base = positive(network, x).clone()
    base.detach().sub_(1)
    return base


def changed_data(network, x):
    base = positive(network, x).clone()
    base.data.sub_(1)
    return base


def changed_parts(network, x):
    base = positive(network, x).clone()
    for column in base.unbind(1):
        column.sub_(1)
    return base


def changed_overlap(network, x):
    base = positive(network, x).clone()
    one, other = base[:, :2], base[:, :3]
    one.sub_(1)
    return F.pad(other, (0, 1))


def changed_many(network, x):
    base = positive(network, x).clone()
    torch._foreach_sub_([base], 1.0)
    return base


def filled_columns(network, x):
    result, y = torch.zeros(BATCH, 4), network.first(x)
    for column in range(4):
        result[:, column] = y[:, column]
    return result


def shifted_sequence(network, x):
    result = torch.zeros(BATCH, 4)
    result[:, 1:] += positive(network, x)[:, 1:]
    result[:, :1] -= positive(network, x)[:, :1]
    return result


NEGATIVE = {
    "a base changed behind its view": changed_base,
    "detached and changed": changed_alias,
    "changed as data": changed_data,
    "changed part by part": changed_parts,
    "changed through an overlapping view": changed_overlap,
    "changed in a list": changed_many,
    "filled by columns": filled_columns,
    "subtracted in place": shifted_sequence,
    "a mixture beyond its ends": lambda n, x: torch.lerp(positive(n, x), x, 2.0),
    "less a product": lambda n, x: torch.addcmul(positive(n, x), positive(n, x), x, value=-1),
    "less a matrix product": lambda n, x: torch.addmm(positive(n, x), x, positive(n, x)[:4], alpha=-1),
    "no more than less than zero": lambda n, x: positive(n, x).clamp_max(-1.0),
    "no more than a parameter": lambda n, x: torch.minimum(positive(n, x), n.vector),
    "drawn from both sides": lambda n, x: torch.empty_like(x).uniform_(-1, 1),
    "masked with a tensor": lambda n, x: positive(n, x).masked_fill(x > 0.5, torch.tensor(-1.0)),
    "masked with a parameter": lambda n, x: positive(n, x).masked_fill(x > 0.5, n.number),
    "filled with a parameter": lambda n, x: torch.empty_like(x).fill_(n.number),
    "times whole numbers": lambda n, x: positive(n, x) * n.signs,
    "over a whole number": lambda n, x: positive(n, x) / torch.tensor(-2),
    "whole numbers elsewhere": lambda n, x: torch.where(x > 0.5, positive(n, x), torch.tensor([1, -1, 1, -1])),
    "whole numbers beside": lambda n, x: torch.cat([positive(n, x)[:, :2], n.signs[:2].expand(BATCH, 2)], 1),
    "softplus mirrored": lambda n, x: F.softplus(positive(n, x), beta=-1),
    "not a number made less": lambda n, x: torch.nan_to_num(positive(n, x) / 0 * 0, nan=-1.0),
    "times a parameter": lambda n, x: positive(n, x) * n.number,
    "plus a parameter": lambda n, x: positive(n, x) + n.vector,
    "plus a negative number": lambda n, x: positive(n, x) + -0.5,
    "plus less than nothing": lambda n, x: torch.add(positive(n, x), x, alpha=-1),
    "from one": lambda n, x: 1 - positive(n, x),
    "padded with less": lambda n, x: F.pad(positive(n, x)[:, :3], (0, 1), value=-1),
    "an odd power": lambda n, x: n.first(x) ** 3,
    "a difference of neighbours": lambda n, x: F.pad(positive(n, x).diff(), (0, 1)),
    "enlarged with overshoot": lambda n, x: (
        F.interpolate(positive(n, x).view(-1, 1, 2, 2), scale_factor=2, mode="bicubic").flatten(1)[:, ::4]
    ),
    "normalized": lambda n, x: F.layer_norm(positive(n, x), (4,)),
    "a complex product": lambda n, x: (
        torch.view_as_real(torch.view_as_complex(positive(n, x).view(-1, 2, 2)) * 1j).flatten(1)
    ),
    "the membrane": lambda n, x: (spikes(n, x), n.lif.v)[1],
    "lower threshold": lambda n, x: F.threshold(n.first(x), -0.5, 0.0),
}


@pytest.mark.filterwarnings("ignore:the network does not run with one sample less")  # some are made for four
@pytest.mark.parametrize("made", NEGATIVE.values(), ids=NEGATIVE)
def test_what_may_be_negative_is_signed(made):
    assert least_input(made) < 0
    assert not origin(made).nonnegative


POSITIVE = {
    "relu": positive,
    "relu of a sum": lambda n, x: torch.relu(n.first(x) + n.vector),
    "a sum of two": lambda n, x: positive(n, x) + x,
    "a product of two": lambda n, x: positive(n, x) * x.sigmoid(),
    "a square": lambda n, x: n.first(x) ** 2,
    "the same twice": lambda n, x: (lambda y: y * y)(n.first(x)),
    "a mean": lambda n, x: positive(n, x).mean(1, keepdim=True).expand(-1, 4),
    "padded": lambda n, x: F.pad(positive(n, x)[:, 1:], (0, 1)),
    "pooled with padding": lambda n, x: F.max_pool1d(positive(n, x)[:, None], 3, 1, 1)[:, 0],
    "clamped": lambda n, x: n.first(x).clamp(min=0),
    "clamped from both sides": lambda n, x: n.first(x).clamp(0.0, 6.0),
    "absolute": lambda n, x: n.first(x).abs(),
    "gelu behind relu": lambda n, x: F.gelu(positive(n, x)),
    "softmax": lambda n, x: n.first(x).softmax(1),
    "spikes": spikes,
    "spikes and their mean": lambda n, x: (lambda s: s + s.mean(1, keepdim=True))(spikes(n, x)),
    "a mask": lambda n, x: (n.first(x) > 0).float(),
    "without a mask": lambda n, x: positive(n, x) * (x > 0.5),
    "normalized to one": lambda n, x: F.normalize(positive(n, x)),
}


@pytest.mark.parametrize("made", POSITIVE.values(), ids=POSITIVE)
def test_what_cannot_be_negative_is_unsigned(made):
    assert least_input(made) >= 0
    assert origin(made).nonnegative


def test_the_input_is_as_the_example():
    assert origin(lambda n, x: x).nonnegative
    assert not origin(lambda n, x: x, torch.randn(BATCH, 4)).nonnegative


def test_the_input_is_as_it_is_said_to_be():
    network, x = Between(lambda n, x: x), torch.rand(BATCH, 4)
    (call,) = record(network, x, nonnegative_input=False).calls[network.reader]
    assert not call.origin.nonnegative


ACTIVATIONS = {
    **{name: (getattr(nn, name), ()) for name in nn.modules.activation.__all__ if name != "MultiheadAttention"},
    "Threshold": (nn.Threshold, (0.1, 0.0)),
    "Softmax": (nn.Softmax, (1,)),
    "Softmin": (nn.Softmin, (1,)),
    "LogSoftmax": (nn.LogSoftmax, (1,)),
    "RReLU": (nn.RReLU, ()),
}
"""All of torch's, and what they are made with."""
UNSIGNED = {"Threshold", "ReLU", "ReLU6", "Sigmoid", "Hardsigmoid", "Softplus", "Softmax", "Softmin", "Softmax2d"}
"""Those that compute nothing below zero."""


def activated(name, x):
    kind, args = ACTIVATIONS[name]
    if name == "Softmax2d":
        return kind()(x[:, :, None, None])[..., 0, 0]
    return kind(*args)(torch.cat([x, x], 1) if name == "GLU" else x)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_sign_of_an_activation(name):
    found = origin(lambda n, x: activated(name, n.first(x)))
    assert found.nonnegative == (name in UNSIGNED)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_sign_of_an_activation_is_what_it_computes(name):
    x = torch.linspace(-20, 20, 400)[:, None].expand(-1, 4)
    assert bool((activated(name, x.clone()) >= 0).all()) == (name in UNSIGNED)


def of_neuron(made):
    """(it, Origin of the reader's input)."""
    found = origin(made)
    return len(found.neurons), found.other, found.mixed


MOVED = {
    "as they are": spikes,
    "folded and transposed": lambda n, x: spikes(n, x).view(2, 2, 4).transpose(0, 1).reshape(BATCH, 4),
    "one by one": lambda n, x: torch.stack(list(spikes(n, x).unbind(1)), 1),
    "beside zeros": lambda n, x: torch.cat([torch.zeros(BATCH, 1), spikes(n, x)[:, 1:]], 1),
    "padded": lambda n, x: F.pad(spikes(n, x)[:, 1:], (1, 0)),
    "in other precision and back": lambda n, x: spikes(n, x).to(torch.float64).to(torch.float32),
    "behind a dropout that drops nothing": lambda n, x: F.dropout(spikes(n, x), 0.0, training=False),
}


@pytest.mark.filterwarnings("ignore:the network does not run with one sample less")  # some are made for four
@pytest.mark.parametrize("made", MOVED.values(), ids=MOVED)
def test_spikes_that_are_only_moved(made):
    assert of_neuron(made) == (1, False, False)


MIXED = {
    "pooled by their largest": lambda n, x: F.max_pool1d(spikes(n, x)[:, None], 3, 1, 1)[:, 0],
    "the larger of two": lambda n, x: (lambda s: torch.maximum(s, s.flip(1)))(spikes(n, x)),
    "their largest": lambda n, x: spikes(n, x).amax(1, keepdim=True).expand(-1, 4),
    "the nearest": lambda n, x: F.interpolate(spikes(n, x)[:, None, :2], scale_factor=2.0)[:, 0],
    "their running sum": lambda n, x: spikes(n, x).cumsum(1),
    "their mean": lambda n, x: spikes(n, x).mean(1, keepdim=True).expand(-1, 4),
    "pooled": lambda n, x: F.avg_pool1d(spikes(n, x)[:, None], 3, 1, 1)[:, 0],
    "their sum": lambda n, x: (lambda s: s + s.flip(1))(spikes(n, x)),
    "times a number": lambda n, x: 0.5 * spikes(n, x),
    "over a number": lambda n, x: spikes(n, x) / 3,
    # In training it drops some.
    "behind a dropout": lambda n, x: F.dropout(spikes(n, x), 0.5, training=False),
    # Of currents they would be something else.
    "behind a relu": lambda n, x: torch.relu(spikes(n, x)),
    "in another order, of time steps perhaps": lambda n, x: spikes(n, x).flip(0),
    "picked": lambda n, x: spikes(n, x)[:, torch.tensor([1, 0, 3, 2])],
}


@pytest.mark.parametrize("made", MIXED.values(), ids=MIXED)
def test_spikes_that_more_happens_to(made):
    assert of_neuron(made) == (1, False, True)


AS_SENT = {
    "pooled by their largest",
    "behind a dropout",
    "behind a relu",
    "picked",
    "in another order, of time steps perhaps",
    "the larger of two",
    "their largest",
    "the nearest",
}


@pytest.mark.parametrize("made", MIXED)
def test_what_is_chosen_among_spikes_is_one_of_them(made):
    assert origin(MIXED[made]).as_sent == (made in AS_SENT)


JOINED = {
    "plus the input": lambda n, x: spikes(n, x) + x,
    "beside the input": lambda n, x: torch.cat([spikes(n, x)[:, :2], x[:, :2]], 1),
    "times a parameter": lambda n, x: spikes(n, x) * n.vector,
    "plus a layer": lambda n, x: spikes(n, x) + n.first(x),
    "or a parameter": lambda n, x: torch.maximum(spikes(n, x), n.vector),
    "plus ones": lambda n, x: spikes(n, x) + torch.ones(4),
    "plus a number": lambda n, x: spikes(n, x) + 0.5,
    "plus a number in a tensor": lambda n, x: spikes(n, x) + torch.tensor(0.5),
    "padded with ones": lambda n, x: F.pad(spikes(n, x)[:, 1:], (1, 0), value=1.0),
    "masked with a number": lambda n, x: spikes(n, x).masked_fill(torch.tensor([True, False, False, False]), 2.0),
    "at least a parameter": lambda n, x: spikes(n, x).clamp_min(n.vector),
    "clamped by a parameter": lambda n, x: spikes(n, x).clamp(n.vector),
}


@pytest.mark.parametrize("made", JOINED.values(), ids=JOINED)
def test_spikes_together_with_something_else(made):
    neurons, other, _ = of_neuron(made)
    assert (neurons, other) == (1, True)


COMPUTED = {
    "sigmoid": lambda n, x: torch.sigmoid(spikes(n, x)),
    "matrix product": lambda n, x: spikes(n, x) @ torch.ones(4, 4),
    "power": lambda n, x: spikes(n, x) ** 2,
    "their square": lambda n, x: (lambda s: s * s)(spikes(n, x)),
    "below the line": lambda n, x: 1 / (1 + spikes(n, x)),
    "compared": lambda n, x: (spikes(n, x) > 0.5).float(),
    "normalized": lambda n, x: F.layer_norm(spikes(n, x), (4,)),
}


@pytest.mark.parametrize("made", COMPUTED.values(), ids=COMPUTED)
def test_what_is_computed_of_spikes_is_no_spike(made):
    neurons, other, _ = of_neuron(made)
    assert (neurons, other) == (0, True)


def test_a_layers_result_is_no_spike():
    assert of_neuron(lambda n, x: n.first(spikes(n, x)))[:2] == (0, True)


def test_two_neurons_are_both_found():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.reader = neuron.IFNode(), neuron.LIFNode(), nn.Linear(4, 4)

        def forward(self, x):
            return self.reader(torch.cat([self.one(x)[:, :2], self.two(x)[:, 2:]], 1))

    network = Two()
    (call,) = record(network, torch.rand(BATCH, 4)).calls[network.reader]
    assert call.origin.neurons == {network.one, network.two}
    assert not call.origin.other


def test_what_a_hook_makes_of_spikes_may_be_negative():
    torch.manual_seed(0)
    network = Between(spikes)
    network.lif.register_forward_hook(lambda module, args, output: -output)
    (call,) = record(network, torch.rand(BATCH, 4)).calls[network.reader]
    assert not call.origin.nonnegative


def test_what_a_hook_adds_to_a_layers_input_counts():
    torch.manual_seed(0)
    network = Between(spikes)
    network.reader.register_forward_pre_hook(lambda module, args: (args[0] - 1,))
    (call,) = record(network, torch.rand(BATCH, 4)).calls[network.reader]
    assert not call.origin.nonnegative


def test_readers_are_named_in_their_order():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif, self.reader, self.norm = neuron.IFNode(), nn.Linear(4, 4), nn.LayerNorm(4)

        def forward(self, x):
            fired = self.lif(x)
            self.norm(fired)
            self.reader(fired)
            fired @ torch.ones(4, 2)
            return fired

    network = Net()
    assert record(network, torch.rand(BATCH, 4)).readers[network.lif] == [
        (network.norm, "native_layer_norm"),
        (network.reader, "layer"),
        (network, "mm"),
        (None, "output"),
    ]


def test_a_neuron_that_reads_a_neuron():
    network = nn.Sequential(neuron.IFNode(), neuron.IFNode(), nn.Linear(4, 4))
    assert record(network, torch.rand(BATCH, 4)).readers == {
        network[0]: [(network[1], "neuron")],
        network[1]: [(network[2], "layer")],
    }


def layer_inputs(network, x, silent=frozenset()):
    """(layer, input) of every call, with zeros in place of the spikes of ``silent`` neurons."""
    seen, hooks = [], []
    for module in network.modules():
        if type(module) is nn.Linear:
            hooks.append(module.register_forward_pre_hook(lambda module, args: seen.append((module, args[0].clone()))))
        elif is_neuron(module) and module in silent:
            hooks.append(module.register_forward_hook(lambda module, args, output: torch.zeros_like(output)))
    functional.reset_net(network)
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return seen


def example(generator, signed):
    draw = torch.randn if signed else torch.rand
    return 3 * draw(BATCH, 8, generator=generator)


BEFORE = [("layer", 1, 1), ("relu", 1, 1), ("neuron", 3, 3)]
"""The three tensors that an operation reads: whatever is negative, what is not, and spikes."""


@pytest.mark.parametrize("kind", OPERATIONS)
def test_every_operation_of_everything(kind):
    generator = torch.Generator().manual_seed(0)
    for first, second in product((1, 2, 3), repeat=2):
        torch.manual_seed(0)
        network = Generated([*BEFORE, (kind, first, second)]).eval()
        (call,) = record(network, example(generator, True)).calls[network.module(len(network.program))]
        for _ in range(3):
            *_, (_, value) = layer_inputs(network, example(generator, True))
            assert not call.origin.nonnegative or not (value < 0).any()
            redraw(network, generator)


@examples(120)
@given(programs(), st.booleans(), st.integers(0, 1000))
def test_no_input_and_no_parameters_make_an_unsigned_input_negative(program, signed, seed):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = Generated(program).eval()
    recording = record(network, example(generator, signed))
    unsigned = {module for module, calls in recording.calls.items() if all(call.origin.nonnegative for call in calls)}
    for _ in range(5):
        for module, value in layer_inputs(network, example(generator, signed)):
            assert module not in unsigned or not (value < 0).any()
        redraw(network, generator)


@examples(120)
@given(programs(), st.integers(0, 1000))
def test_nothing_but_its_neurons_moves_an_input_of_spikes_alone(program, seed):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = Generated(program).eval()
    recording = record(network, example(generator, True))
    readings = [(module, *each) for module, calls in recording.calls.items() for each in enumerate(calls)]
    for module, index, call in readings:
        origin = call.origin
        if type(module) is not nn.Linear or origin.other or not origin.neurons:
            continue
        values = []
        for _ in range(3):
            found = layer_inputs(network, example(generator, True), silent=origin.neurons)
            values.append([value for layer, value in found if layer is module][index])
            redraw(network, generator)
        assert torch.equal(values[0], values[1])
        assert torch.equal(values[0], values[2])


@examples(60)
@given(programs(), st.integers(0, 1000))
def test_spikes_that_are_only_moved_are_zeros_and_ones(program, seed):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = Generated(program).eval()
    recording = record(network, example(generator, True))
    moved = {
        module
        for module, calls in recording.calls.items()
        if all(call.origin.neurons and not call.origin.mixed and not call.origin.other for call in calls)
    }
    for module, value in layer_inputs(network, example(generator, True)):
        assert module not in moved or set(value.unique().tolist()) <= {0.0, 1.0}


@examples(40)
@given(programs(), st.integers(0, 1000))
def test_recording_leaves_a_network_as_it_was(program, seed):
    torch.manual_seed(seed)
    network, x = Generated(program).eval(), torch.randn(BATCH, 8)
    functional.reset_net(network)
    before = network(x)
    record(network, x)
    assert torch.equal(network(x), before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_layer_of_spikingjelly_is_followed_like_torchs():
    network = nn.Sequential(layer.Linear(4, 4), neuron.IFNode(), layer.Dropout(0.5), layer.Linear(4, 4))
    (call,) = record(network, torch.rand(BATCH, 4)).calls[network[3]]
    assert (call.origin.neurons, call.origin.other, call.origin.nonnegative) == ({network[1]}, False, True)
