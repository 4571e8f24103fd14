"""Neurons in their own place: pooling, sums and concatenation work on what they send."""

import copy

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from tolerances import FLOAT64
from torch import nn
from torch.nn.functional import avg_pool2d, max_pool2d

from bitsearch.choices import Choices
from bitsearch.errors import InputError
from bitsearch.layers import convert, quantized_layers
from bitsearch.layers.neurons.input_current import InputCurrent
from bitsearch.layers.neurons.placed_neuron import PlacedNeuron
from bitsearch.plan import LayerPlan
from bitsearch.quant.frames import bins, first_frames, hold_frames

FRAMES = (1, 4, 8)


def bits(weight=1, spike=1, time_steps=4, **options):
    return LayerPlan(weight_bits=weight, spike_bits=(spike,) * time_steps, time_steps=time_steps, **options)


def in_place(neurons, time_steps=4, **options):
    return bits(time_steps=time_steps, pooled=True, in_place=True, neurons=neurons, **options)


def with_unit_steps(network):
    """Every step size 1, and set for the bits that there are; weights are ±1."""
    for quantized in quantized_layers(network).values():
        quantized.weight.data = torch.where(quantized.weight < 0, -1.0, 1.0)
        quantized.weight_step_bits.copy_(quantized.weight_bits)
        quantized.spike_step_bits.copy_(quantized.spike_bits)
        quantized.refresh_cache()
    return network


def sent_by_hand(current, decay, largest=1.0):
    """What a neuron with steps of one sends, frame by frame: the nearest level, reset by subtraction."""
    membrane, sent = torch.zeros_like(current[0]), []
    for frame in current:
        membrane = decay * membrane + frame
        sent.append((membrane + 0.5).floor().clamp(0, largest))
        membrane = membrane - sent[-1]
    return torch.stack(sent)


class Pooled(nn.Module):
    """One neuron, its spikes pooled, and a layer."""

    def __init__(self, node, pool, tail=False):
        super().__init__()
        torch.manual_seed(0)
        self.neuron, self.pool, self.reader = node, pool, layer.Conv2d(2, 3, 3, bias=False)
        self.tail = layer.Linear(12, 2) if tail else nn.Identity()
        functional.set_step_mode(self, "m")

    def forward(self, x):
        y = self.reader(self.pool(self.neuron(x)))
        return self.tail(y.flatten(2)) if isinstance(self.tail, nn.Linear) else y


class Two(nn.Module):
    """Two neurons whose spikes are added up, or concatenated, in front of a layer."""

    def __init__(self, join):
        super().__init__()
        self.a, self.b, self.join = neuron.IFNode(v_reset=None), neuron.IFNode(v_reset=None), join
        self.reader = layer.Linear(8 if join is torch.cat else 4, 3, bias=False)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        left, right = self.a(x), self.b(1 - x)
        return self.reader(torch.cat([left, right], -1) if self.join is torch.cat else left + right)


def images(frames, seed=0):
    return 2 * torch.randn(frames, 3, 2, 8, 8, generator=torch.Generator().manual_seed(seed))


def applied(function, frames):
    return function(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])


POOLS = {"max": (lambda: layer.MaxPool2d(2), max_pool2d), "average": (lambda: layer.AvgPool2d(2), avg_pool2d)}
NODES = {
    "IF": (lambda: neuron.IFNode(v_reset=None), 1.0, 1.0),
    "threshold 2": (lambda: neuron.IFNode(v_threshold=2.0, v_reset=None), 1.0, 0.5),
    "LIF": (lambda: neuron.LIFNode(tau=2.0, v_reset=None), 0.5, 0.5),
    "PLIF": (lambda: neuron.ParametricLIFNode(init_tau=4.0, v_reset=None, decay_input=False), 0.75, 1.0),
}


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("node", NODES)
def test_spikes_are_pooled_not_currents(node, pool, frames):
    make, decay, gain = NODES[node]
    pooling, function = POOLS[pool]
    network = Pooled(make(), pooling())
    plan = in_place(("neuron",), frames, frames=frames, decay=decay)
    converted = with_unit_steps(convert(network, {"reader": plan}))
    x = images(frames)
    sent = sent_by_hand(gain * x, decay)
    weight = converted.reader.weight
    expected = applied(lambda y: torch.conv2d(function(y, 2), weight), sent)
    # Sums of quarters, exact in any order.
    assert torch.equal(converted(x), expected)
    assert expected.unique().numel() > 5


@pytest.mark.parametrize("time_steps", [1, 2, 3])
@pytest.mark.parametrize("pool", POOLS)
def test_fewer_time_steps_bin_the_neurons_frames(pool, time_steps):
    pooling, function = POOLS[pool]
    plan = in_place(("neuron",), time_steps, frames=8, spike=2)
    converted = with_unit_steps(convert(Pooled(neuron.IFNode(), pooling()), {"reader": plan}))
    converted, x = converted.double(), images(8).double()
    sent = sent_by_hand(torch.stack([x[first:end].mean(0) for first, end in bins(8, time_steps)]), 1.0, 3.0)
    steps = applied(lambda y: torch.conv2d(function(y, 2), converted.reader.weight), sent)
    expected = torch.stack([steps[frame * time_steps // 8] for frame in range(8)])
    torch.testing.assert_close(converted(x), expected, rtol=FLOAT64, atol=FLOAT64)


@pytest.mark.parametrize("join", [torch.add, torch.cat], ids=lambda join: join.__name__)
def test_every_neuron_keeps_a_membrane_of_its_own(join):
    torch.manual_seed(0)
    converted = with_unit_steps(convert(Two(join), {"reader": in_place(("a", "b"), frames=4)}))
    # Sums of as many frames never lie half way between two levels.
    x = torch.randint(-6, 7, (4, 5, 4)) / 4 + 1 / 32
    left, right = sent_by_hand(x, 1.0), sent_by_hand(1 - x, 1.0)
    together = torch.cat([left, right], -1) if join is torch.cat else left + right
    assert torch.equal(converted(x), together @ converted.reader.weight.T)


@pytest.mark.parametrize("time_steps", [1, 3])
def test_without_a_time_axis_the_mean_spikes_are_pooled(time_steps):
    network = nn.Sequential(nn.Conv2d(2, 2, 1), neuron.IFNode(), nn.AvgPool2d(2), nn.Conv2d(2, 3, 3, bias=False))
    plan = in_place(("1",), time_steps, spike=2)
    converted = with_unit_steps(convert(network, {"3": plan}))
    with torch.no_grad():
        converted[0].weight.copy_(torch.eye(2).view(2, 2, 1, 1))
        converted[0].bias.zero_()
    x = (4 * images(1)[0]).round() / 4 + 1 / 8
    sent = sent_by_hand(x.expand(time_steps, *x.shape), 1.0, 3.0).double().mean(0)
    expected = torch.conv2d(avg_pool2d(sent, 2), converted[3].weight.double())
    torch.testing.assert_close(converted.double()(x.double()), expected, rtol=FLOAT64, atol=FLOAT64)


class Loop(nn.Module):
    """The same network as its multi-step twin, a frame at a time."""

    def __init__(self, whole):
        super().__init__()
        self.neuron, self.pool, self.reader = neuron.IFNode(v_reset=None), nn.MaxPool2d(2), nn.Conv2d(2, 3, 3)
        self.reader.load_state_dict(whole.reader.state_dict(), strict=False)
        nn.init.zeros_(self.reader.bias)

    def forward(self, x):
        return torch.stack([self.reader(self.pool(self.neuron(frame))) for frame in x])


def test_a_loop_over_frames_sends_what_its_multi_step_twin_sends():
    whole = Pooled(neuron.IFNode(v_reset=None), layer.MaxPool2d(2))
    plan = in_place(("neuron",), frames=4, spike=3, weight=3)
    looped = convert(Loop(whole), {"reader": plan.model_copy(update={"loop": "frames"})})
    whole = convert(whole, {"reader": plan})
    x = images(4)
    for network in (whole, looped):
        network(x)
    assert torch.equal(whole.reader.spike_log_step, looped.reader.spike_log_step)
    first, second = looped(x), looped(x)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, whole(x))
    with pytest.raises(InputError, match="inputs of 4 frames; this one has more"):
        looped(images(5))


def test_the_first_frame_of_every_step_is_what_was_held():
    for frames in range(1, 12):
        for time_steps in range(1, frames + 1):
            steps = torch.arange(time_steps)
            assert torch.equal(first_frames(hold_frames(steps, frames), time_steps), steps)


def trained_twice(network, x):
    """A learnable copy of the network after its first batch, and its gradients."""
    network.train()
    loss = network(x).square().sum()
    loss.backward()
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


def test_numbers_are_those_of_the_reader_and_so_are_gradients():
    choices = {"reader": Choices(weight_bits=(1, 8), spike_bits=(1, 8), time_steps=(1, 4))}
    plan = {"reader": in_place(("neuron",), frames=4, spike=2, weight=4)}
    behind = {"reader": plan["reader"].model_copy(update={"in_place": None})}
    network = Pooled(neuron.IFNode(), layer.AvgPool2d(2))
    placed, moved = convert(network, plan, choices), convert(network, behind, choices)
    assert placed.state_dict().keys() == moved.state_dict().keys()
    assert placed.reader.layer_plan == plan["reader"]
    gradients = trained_twice(placed, images(4))
    assert gradients.keys() == trained_twice(moved, images(4)).keys()
    assert all(gradient.abs().sum() > 0 for gradient in gradients.values())
    # The bits' and steps' gradients come from the neuron: nothing of them is left where it sends nothing on.
    assert {"reader.spike_latent", "reader.time_latent", "reader.spike_log_step"} <= gradients.keys()


def test_a_copy_and_its_weights_are_of_their_own():
    converted = convert(Pooled(neuron.IFNode(), layer.MaxPool2d(2)), {"reader": in_place(("neuron",), frames=4)})
    converted(images(4))
    twin = copy.deepcopy(converted)
    assert twin.neuron.owner is twin.reader
    assert twin.reader is not converted.reader
    twin.reader.spike_log_step.data += 1
    assert not torch.equal(converted(images(4)), twin(images(4)))
    converted.load_state_dict(twin.state_dict())
    assert torch.equal(converted(images(4)), twin(images(4)))


def test_the_step_is_set_by_the_currents_of_all_neurons():
    torch.manual_seed(0)
    plan = {"reader": in_place(("a", "b"), frames=4, spike=4, weight=4)}
    x = torch.randn(4, 64, 4)
    converted = convert(Two(torch.cat), plan)
    converted(x)
    # One layer that reads both currents, concatenated, has the same values to quantize.
    alone = convert(nn.Sequential(layer.Linear(8, 3, bias=False)), {"0": bits(weight=4, spike=4, frames=4)})
    alone(torch.cat([x, 1 - x], -1))
    torch.testing.assert_close(converted.reader.spike_log_step, alone[0].spike_log_step, rtol=0.02, atol=0.02)


def test_a_neuron_that_moves_behind_the_pooling_is_an_older_plans():
    plan = in_place(("neuron",), frames=4).model_copy(update={"in_place": None})
    converted = convert(Pooled(neuron.IFNode(), layer.MaxPool2d(2)), {"reader": plan})
    assert type(converted.neuron) is InputCurrent
    assert converted.neuron.rectified


class Branches(nn.Module):
    """Two layers that read one neuron, behind a pooling of its own and directly."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.neuron, self.pool = neuron.IFNode(v_reset=None), layer.MaxPool2d(2)
        self.c, self.d = layer.Conv2d(2, 3, 3, bias=False), layer.Conv2d(2, 3, 7, bias=False)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        spikes = self.neuron(x)
        return self.c(self.pool(spikes)) + self.d(spikes)


def test_layers_that_read_one_neuron_read_one_stream():
    plan = {name: in_place(("neuron",), frames=4, spike=2) for name in ("c", "d")}
    converted = with_unit_steps(convert(Branches(), plan))
    x = images(4)
    sent = sent_by_hand(x, 1.0, 3.0)
    pooled = applied(lambda y: torch.conv2d(max_pool2d(y, 2), converted.c.weight), sent)
    assert torch.equal(converted(x), pooled + applied(lambda y: torch.conv2d(y, converted.d.weight), sent))


def test_layers_of_one_stream_have_one_step_size_a_time_step():
    plan = {name: in_place(("neuron",), frames=4, spike=2, weight=4) for name in ("c", "d")}
    choices = {name: Choices(weight_bits=(1, 8), spike_bits=(1, 8), time_steps=(1, 4)) for name in plan}
    for converted in (convert(Branches(), plan, choices), convert(Branches(), plan)):
        converted.train()(images(4)).sum().backward()
        assert converted.c.spike_log_step is converted.d.spike_log_step
        assert converted.c.spike_step_bits.tolist() == converted.d.spike_step_bits.tolist() == [2] * 4
        assert converted.c.spike_log_step.grad.abs().sum() > 0
        twin = copy.deepcopy(converted)
        assert twin.c.spike_log_step is twin.d.spike_log_step
        assert torch.equal(twin(images(4)), converted(images(4)))
        for module in (converted.c, converted.d):
            module.fix(in_place(("neuron",), frames=4, time_steps=2, spike=5, weight=4))
        converted(images(4))
        assert converted.c.spike_log_step is converted.d.spike_log_step
        assert converted.c.spike_step_bits.tolist() == converted.d.spike_step_bits.tolist() == [5, 5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_place": None}, "in_place True and None"),
        ({"spike_bits": (1, 2, 1, 1)}, r"spike_bits \(1, 1, 1, 1\) and \(1, 2, 1, 1\)"),
    ],
)
def test_two_streams_of_one_neuron_are_refused(changes, message):
    network = nn.Sequential(neuron.IFNode(), nn.Linear(4, 4), nn.Linear(4, 4))
    plan = {"1": in_place(("0",)), "2": in_place(("0",)).model_copy(update=changes)}
    with pytest.raises(InputError, match=f"layers '1' and '2' read a neuron that fires in its place.*{message}"):
        convert(network, plan)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"neurons": ()}, "lists no neurons that would fire there"), ({"signed_input": True}, "are never below zero")],
)
def test_a_plan_says_which_neurons_fire_in_their_place(changes, message):
    with pytest.raises(ValueError, match=message):
        LayerPlan(
            **({"weight_bits": 1, "spike_bits": (1,), "time_steps": 1, "in_place": True, "neurons": ("a",)} | changes)
        )


def test_another_number_of_frames_is_refused():
    converted = convert(Pooled(neuron.IFNode(), layer.MaxPool2d(2)), {"reader": in_place(("neuron",), frames=4)})
    with pytest.raises(InputError, match="the plan is for inputs of 4 frames; an input of shape"):
        converted(images(6))
    assert isinstance(converted.neuron, PlacedNeuron)
