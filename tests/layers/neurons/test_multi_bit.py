"""Neurons of single spikes send more levels once their bits are trained, and not before; plans say which they do."""

import pytest
import torch
from safetensors.torch import save_file
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import bitsearch
from bitsearch.choices import Choices, Span
from bitsearch.layers import convert
from bitsearch.plan import NeuronSettings, UniformBits

T = 4


def network(node=neuron.IFNode, pooled=False):
    torch.manual_seed(0)
    pool = [layer.AvgPool2d(2)] if pooled else []
    net = nn.Sequential(
        layer.Conv2d(2, 6, 3, padding=1), node(), *pool, layer.Flatten(), layer.Linear(6 * (4 if pooled else 16), 3)
    )
    functional.set_step_mode(net, "m")
    with torch.no_grad():
        net[0].weight.mul_(6)
    return net.eval()


def events():
    return torch.rand(T, 8, 2, 4, 4, generator=torch.Generator().manual_seed(1))


def learnable(net, bits=4):
    start = UniformBits(weight_bits=8, spike_bits=bits, time_steps=T)
    choices = Choices(time_steps=Span(low=1, high=T))
    return bitsearch.quantize(net, events(), start=start, baseline=start, choices=choices, time_axis=True)


def levels_sent(quantized):
    """The largest level of the second layer's spikes, in its steps."""
    last = list(quantized.layers.values())[-1]
    seen = []
    last.observer = lambda _, spikes, weight: seen.append(spikes.detach() / last.spike_step[:T].view(T, 1, 1, 1, 1))
    with torch.no_grad():
        quantized(events())
    last.observer = None
    return round(float(seen[0].max()))


@pytest.mark.parametrize("pooled", [False, True])
def test_training_releases_the_largest_spike(pooled):
    quantized = learnable(network(pooled=pooled)).eval()
    assert levels_sent(quantized) == 1
    before = quantized(events())
    assert torch.equal(quantized(events()), before)
    quantized.train()
    assert levels_sent(quantized) > 1
    assert not torch.equal(quantized.eval()(events()), before)


def test_a_plan_of_a_trained_network_rebuilds_what_it_is():
    net = network()
    quantized = learnable(net).train()
    quantized(events()).sum().backward()
    quantized.fix({name: plan.with_bits(8, (3,) * T) for name, plan in quantized.layer_plans.items()})
    quantized.eval()
    expected = quantized(events())
    assert levels_sent(quantized) > 1
    assert quantized.layer_plans["3"].neuron == NeuronSettings(reset="zero", threshold="full")
    rebuilt = convert(net, quantized.layer_plans).eval()
    rebuilt.load_state_dict(quantized.network.state_dict())
    assert torch.equal(rebuilt(events()), expected)


def test_a_fixed_plan_stays_what_it_says_while_it_trains():
    net = network()
    quantized = learnable(net)
    fixed = bitsearch.QuantizedNetwork(
        convert(net, quantized.layer_plans), quantized.model, quantized.rules, quantized.baseline
    )
    fixed.train()(events()).sum().backward()
    assert fixed.layer_plans["3"].neuron == NeuronSettings(reset="zero", threshold="full", largest=1)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("through_file", [False, True])
def test_a_state_says_how_many_levels_are_sent(pooled, through_file, tmp_path):
    def loaded(network, source):
        if through_file:
            bitsearch.save_weights(source, tmp_path / "weights.safetensors")
            bitsearch.load_weights(network, tmp_path / "weights.safetensors")
        else:
            network.load_state_dict(source.state_dict())
        return network.eval()

    net = network(pooled=pooled)
    untrained = learnable(net).eval()
    untrained(events())
    trained = learnable(net).train()
    trained(events()).sum().backward()
    trained.eval()
    assert levels_sent(trained) > 1
    assert not torch.equal(trained(events()), untrained(events()))
    assert torch.equal(loaded(learnable(net), trained)(events()), trained(events()))
    # And back: what was trained takes the state of what was not.
    assert torch.equal(loaded(trained, untrained)(events()), untrained(events()))
    assert levels_sent(trained) == 1


def test_a_state_of_an_earlier_version_leaves_the_levels_as_they_are(tmp_path):
    net = network()
    trained = learnable(net).train()
    trained(events())
    state = {name: value for name, value in trained.state_dict().items() if not name.endswith(".released")}
    assert len(state) < len(trained.state_dict())
    fresh = learnable(net)
    fresh.load_state_dict(state)
    assert levels_sent(fresh.eval()) == 1
    save_file(state, tmp_path / "weights.safetensors")
    bitsearch.load_weights(trained, tmp_path / "weights.safetensors")
    assert levels_sent(trained.eval()) > 1


def test_neurons_that_send_several_levels_of_their_own_keep_their_largest():
    quantized = learnable(network(neuron.ILIFNode)).train()
    largest = quantized.layer_plans["3"].neuron.largest
    assert largest > 1
    quantized(events())
    assert quantized.layer_plans["3"].neuron.largest == largest
