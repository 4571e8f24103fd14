"""A network's own neurons after conversion: at its own setting, every spike is SpikingJelly's."""

from contextlib import nullcontext

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from tolerances import summed
from torch import nn

import bitsearch
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.layers import convert, quantized_layers
from bitsearch.plan import NeuronSettings, UniformBits
from bitsearch.quant.membrane_gradient import gradients_through_time

NODES = {
    "IF": neuron.IFNode,
    "LIF": lambda **options: neuron.LIFNode(tau=2.0, **options),
    "LIF, its input as it is": lambda **options: neuron.LIFNode(tau=2.0, decay_input=False, **options),
    "ParametricLIF": lambda **options: neuron.ParametricLIFNode(init_tau=2.0, **options),
}
OPTIONS = {"time_axis": True, "choices": Choices(time_steps=Span(low=1, high=8))}


def on_a_grid(weight, largest):
    """The nearest of the 255 levels up to ``largest``, a power of two times 127: exact in float32."""
    step = largest / 127
    levels = (weight / weight.abs().max() * 127).round()
    return levels * step


def network(node, fires=16.0):
    """Two layers of neurons for frames ``[2, 6, 6]`` of zeros and ones, with weights on a grid of 8 bits."""
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(2, 8, 3, padding=1),
        node(),
        layer.Conv2d(8, 8, 3, padding=1),
        node(),
        layer.Flatten(),
        layer.Linear(8 * 36, 10),
    )
    functional.set_step_mode(net, "m")
    with torch.no_grad():
        for module in (net[0], net[2], net[5]):
            module.weight.copy_(on_a_grid(module.weight, 127 / 128 * fires / 16))
            module.bias.copy_((module.bias * 256).round() / 256)
    return net.eval()


def events(frames, count=16):
    return (torch.rand(frames, count, 2, 6, 6, generator=torch.Generator().manual_seed(1)) < 0.4).float()


def converted(net, x, spike_bits=1, time_steps=None):
    """With the steps that the first batch sets."""
    bits = UniformBits(weight_bits=8, spike_bits=spike_bits, time_steps=time_steps or len(x))
    first = FirstLayer(weight_bits=8, spike_bits=1, time_steps=len(x))
    quantized = bitsearch.quantize(net, x, start=bits, baseline=bits, first_layer=first, **OPTIONS).eval()
    with torch.no_grad():
        quantized(x)
    return quantized


def spikes_of(net, x):
    """Of every neuron of SpikingJelly's, and the logits."""
    trains = []
    hooks = [
        module.register_forward_hook(lambda _, inputs, spikes: trains.append(spikes))
        for module in net
        if isinstance(module, neuron.BaseNode)
    ]
    with torch.no_grad():
        logits = net(x)
    functional.reset_net(net)
    for hook in hooks:
        hook.remove()
    return trains, logits


def spikes_of_layers(quantized, x):
    trains = []
    for quantized_layer in list(quantized.layers.values())[1:]:
        quantized_layer.observer = lambda _, spikes, weight: trains.append(spikes)
    with torch.no_grad():
        return trains, quantized(x)


@pytest.mark.parametrize("frames", [1, 4, 8])
@pytest.mark.parametrize("v_reset", [None, 0.0])
@pytest.mark.parametrize("kind", NODES)
@pytest.mark.parametrize("spike_bits", [1, 3])
def test_every_spike_is_the_librarys(kind, v_reset, frames, spike_bits):
    net, x = network(lambda: NODES[kind](v_reset=v_reset)), events(frames)
    trains, logits = spikes_of(net, x)
    quantized = converted(net, x, spike_bits)
    ours, our_logits = spikes_of_layers(quantized, x)
    assert [quantized_layer.spike_step.unique().tolist() for quantized_layer in quantized.layers.values()] == [[1]] * 3
    for theirs, mine in zip(trains, ours, strict=True):
        assert 0.01 < theirs.mean() < 0.99
        assert torch.equal(theirs.reshape(mine.shape), mine)
    assert torch.equal(our_logits, logits)


@pytest.mark.parametrize("v_reset", [None, 0.0, -1.0])
def test_a_threshold_is_the_unit_of_the_currents(v_reset):
    net = network(lambda: neuron.IFNode(v_threshold=1.0 if v_reset else 2.0, v_reset=v_reset), fires=32.0)
    x = events(4)
    trains, _ = spikes_of(net, x)
    ours, _ = spikes_of_layers(converted(net, x), x)
    for theirs, mine in zip(trains, ours, strict=True):
        assert torch.equal(theirs.reshape(mine.shape), mine)


class Loop(nn.Module):
    """Single-step modules, once a frame."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        functional.set_step_mode(self, "s")

    def forward(self, x):
        return torch.stack([self.net(frame) for frame in x])


def test_a_loop_over_frames_has_the_same_spikes():
    for v_reset in (None, 0.0):
        whole = network(lambda v_reset=v_reset: NODES["LIF"](v_reset=v_reset))
        x = events(4)
        expected = converted(whole, x)(x)
        assert torch.equal(converted(Loop(whole), x)(x), expected)


@pytest.mark.parametrize("through_time", [False, True], ids=["cut", "through time"])
@pytest.mark.parametrize("v_reset", [None, 0.0])
def test_a_loop_has_the_gradients_of_its_multi_step_twin(v_reset, through_time):
    x, gradients = events(4).double(), []
    for make in (Loop, lambda net: net):
        net = network(lambda: neuron.LIFNode(tau=2.0, v_reset=v_reset)).double()
        quantized = converted(make(net), x)
        with gradients_through_time() if through_time else nullcontext():
            quantized(x).square().sum().backward()
        gradients.append({path.removeprefix("network.net."): p.grad for path, p in quantized.named_parameters()})
    loop, whole = gradients
    for path, gradient in whole.items():
        # A loop has no choice of time steps; step sizes are in float32.
        if "latent" not in path:
            tolerance = summed(16 * 4 * 288, float(gradient.abs().max()), gradient.dtype)
            torch.testing.assert_close(loop[path.removeprefix("network.")], gradient, **tolerance)
    assert whole["network.0.weight"].abs().sum() > 0


def test_a_loop_sets_the_steps_of_its_multi_step_twin():
    # Levels up to four: two bits are fewer than the neuron's own.
    x = events(4)
    whole, loop = (converted(net, x, 2) for net in (network(neuron.ILIFNode), Loop(network(neuron.ILIFNode))))
    steps = [[part.spike_step.tolist() for part in quantized.layers.values()] for quantized in (whole, loop)]
    assert steps[0][2] != [1] * 4
    assert steps[0] == steps[1]


@pytest.mark.parametrize("v_reset", [None, 0.0])
def test_fewer_time_steps_are_nearer_to_the_network_with_a_second_bit(v_reset):
    net, x = network(lambda: neuron.IFNode(v_reset=v_reset)), events(8, count=64)
    trains, _ = spikes_of(net, x)
    expected = trains[0].unflatten(0, (2, 4)).mean(1)
    errors = []
    for bits in (1, 2):
        ours, _ = spikes_of_layers(converted(net, x, bits, time_steps=2), x)
        errors.append(float((ours[0].reshape(expected.shape) - expected).square().mean()))
    # Four frames have five means, one bit has two levels.
    assert errors[1] < 0.7 * errors[0]


def test_a_change_of_bits_keeps_what_the_neuron_sends():
    net, x = network(neuron.IFNode), events(4)
    quantized = converted(net, x, 4)
    before = quantized(x)
    plans = quantized.layer_plans
    quantized.fix({name: plan.with_bits(8, (2,) * 4) if plan.neuron else plan for name, plan in plans.items()})
    assert torch.equal(quantized(x), before)


def test_other_time_steps_get_steps_of_their_own():
    net, x = network(lambda: neuron.IFNode(v_reset=None)), events(8, count=64)
    quantized = converted(net, x, 4)
    part = quantized.layers["2"]
    assert part.spike_step.tolist() == [1] * 8
    fewer = {name: plan.with_bits(8, (4,) * 2) if plan.neuron else plan for name, plan in quantized.layer_plans.items()}
    expected = converted(net, x, 4, time_steps=2).layers["2"].spike_step[:2].tolist()
    for change in (part.set_bits, part.fix):
        change(fewer["2"])
        quantized(x)
        assert part.spike_step[:2].tolist() == expected
        assert max(expected) < 1
        change(quantized.layer_plans["2"].with_bits(8, (4,) * 8))
        quantized(x)
        assert part.spike_step.tolist() == [1] * 8


def test_a_step_stays_open_until_something_comes_in():
    net, x = network(neuron.IFNode), events(8)
    silent = network(neuron.IFNode)
    with torch.no_grad():
        silent[0].weight.zero_()
        silent[0].bias.fill_(-1)
    bits = UniformBits(weight_bits=8, spike_bits=2, time_steps=2)
    quantized = bitsearch.quantize(silent, x, start=bits, baseline=bits, **OPTIONS).eval()
    with torch.no_grad():
        quantized(x)
        assert not quantized.layers["2"].spike_step_bits.any()
        quantized.layers["0"].weight.copy_(net[0].weight)
        quantized.layers["0"].bias.copy_(net[0].bias)
        quantized.layers["0"].weight_step_bits.zero_()
        quantized.layers["0"].refresh_cache()
        quantized(x)
    assert quantized.layers["2"].spike_step_bits[:2].tolist() == [2, 2]


def test_the_table_says_what_a_neuron_does_at_a_spike():
    table = {row.name: row.why for row in converted(network(neuron.IFNode), events(4)).conversion}
    assert table["1"] == "is reset to zero by a spike, fires at its threshold"
    table = {row.name: row.why for row in converted(network(lambda: neuron.IFNode(v_reset=None)), events(4)).conversion}
    assert table["3"] == "subtracts its spikes, fires at its threshold"


def test_a_plan_rebuilds_its_neurons():
    net, x = network(neuron.IFNode), events(4)
    plans = converted(net, x).layer_plans
    rebuilt = convert(net, plans).eval()
    _, logits = spikes_of(net, x)
    with torch.no_grad():
        rebuilt(x)
    assert [part.layer_plan for part in quantized_layers(rebuilt).values()] == list(plans.values())
    assert [part.neuron for part in quantized_layers(rebuilt).values()][1:] == [
        NeuronSettings(reset="zero", threshold="full", largest=1)
    ] * 2
    assert torch.equal(rebuilt(x), logits)


def test_a_hard_reset_has_fewer_spikes():
    x, counts = events(8), []
    for v_reset in (None, 0.0):
        part = converted(network(lambda v_reset=v_reset: neuron.IFNode(v_reset=v_reset)), x).layers["2"]
        currents = 3 * torch.rand(8, 16, 8, 6, 6, generator=torch.Generator().manual_seed(0))
        fired, count = part.count_spikes(currents)
        node = neuron.IFNode(v_reset=v_reset, step_mode="m")
        assert (fired, count) == (int(node(currents).sum()), currents.numel())
        counts.append(fired)
    assert counts[1] < counts[0]
