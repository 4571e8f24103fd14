"""What is recorded of a network's firing against what its layers count themselves."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import bitsearch
from bitsearch.energy_models.firing import Firing, record_firing
from bitsearch.network_inputs import map_inputs
from bitsearch.plan import UniformBits

T = 3


def quantized(*layers, shape, spike_bits=2, time_axis=False, **options):
    torch.manual_seed(0)
    network, x = nn.Sequential(*layers), torch.rand(4, *shape)
    x = torch.rand(T, 4, *shape) if time_axis else x
    bits = UniformBits(weight_bits=3, spike_bits=spike_bits, time_steps=T)
    made = bitsearch.quantize(network, x, start=bits, time_axis=time_axis, **options).eval()
    with torch.no_grad():
        made(x)
    return made, map_inputs(lambda values: values.narrow(int(time_axis), 0, 1), x)


def recorded(network, x):
    """By the layer's place, the inputs of its calls, and by the neurons' the levels that they sent."""
    firing = record_firing(network.network, network.model, x)
    inputs, sent = {}, {}
    for module, got, levels in firing._calls:
        place = [*firing.parts].index(module)
        (inputs if levels is None else sent).setdefault(place, []).append(got if levels is None else levels)
    return firing, inputs, sent


@pytest.mark.parametrize("time_axis", [False, True])
def test_a_layer_gets_every_spike_as_often_as_it_counts(time_axis):
    network, x = quantized(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 4), shape=(6,), time_axis=time_axis)
    counted, seen = network.layers["2"], []
    counted.observer = lambda inputs, spikes, weight: seen.append(inputs)
    with torch.no_grad():
        network(x)
    counted.observer = None
    (currents,) = seen
    firing, inputs, sent = recorded(network, x)
    assert [type(part).__name__ for part in firing.parts] == ["Linear", "IFNode", "Linear"]
    # The network's own input arrives as it is, of an encoder's 8 bits.
    assert max(int(step.max()) for step in inputs[0]) > 1
    assert all(set(step.unique().tolist()) <= {0, 1} for step in inputs[2])
    events = sum(int(step.sum()) for step in inputs[2])
    # Each through one connection to each of four outputs.
    assert 4 * events == counted.count_synops(currents, unrolled=True) > 0
    (levels,) = sent[1]
    assert levels.shape == (T, 1, 7)
    assert int(levels.count_nonzero()) == counted.count_spikes(currents)[0]
    assert int(levels.sum()) == events
    assert counted.observer is None


def test_what_a_pooling_makes_of_spikes_is_a_spike_or_a_value():
    for pool, binary in ((nn.MaxPool2d(2), True), (nn.AvgPool2d(2), False)):
        network, x = pooled(pool)
        firing, inputs, sent = recorded(network, x)
        arrived = torch.cat([step.flatten() for step in inputs[len(firing.parts) - 1]])
        assert (set(arrived.unique().tolist()) <= {0, 1}) == binary
        assert arrived.any()
        # The neurons stand in front of the pooling.
        assert sent[1][0].shape[1:] == (1, 2, 4, 4)


def pooled(pool):
    """A convolution whose neurons fire in front of a pooling, at every frame."""
    torch.manual_seed(0)
    node = neuron.IFNode(v_threshold=0.2, v_reset=None)
    pool = layer.SeqToANNContainer(pool)
    network = nn.Sequential(layer.Conv2d(1, 2, 3, padding=1), node, pool, layer.Flatten(), layer.Linear(8, 3))
    functional.set_step_mode(network, "m")
    x = 8 * torch.rand(T, 4, 1, 4, 4)
    bits = UniformBits(weight_bits=3, spike_bits=1, time_steps=T)
    made = bitsearch.quantize(network, x, start=bits, time_axis=True).eval()
    with torch.no_grad():
        made(x)
    return made, x[:, :1]


def test_layers_that_keep_32_bits_are_recorded_too():
    network, x = quantized(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 4), shape=(6,), exclude=["2"])
    firing, inputs, _ = recorded(network, x)
    assert [type(part).__name__ for part in firing.parts] == ["Linear", "Linear"]
    assert not set(inputs[1][0].unique().tolist()) <= {0, 1}


def test_it_can_be_run_again():
    firing = Firing()
    firing.add_neurons("one", 0.5, torch.tensor([[[0.0, 2.0]], [[1.0, 0.0]]]))
    sent = []
    firing.parts[0].register_forward_hook(lambda module, args, output: sent.append(output))
    firing()
    firing()
    assert torch.equal(sent[0], sent[1])
    assert firing.parts[0].tau == 2.0
