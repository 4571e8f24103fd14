"""Counting spikes from what a layer has fired anyway, against firing anew."""

import pytest
import torch
from torch import nn

from bitsearch.cost import AllowedBits, CostModel, trace
from bitsearch.layers import convert
from bitsearch.layers.convert import quantized_layers
from bitsearch.layers.spike_counts import nonzero_counts
from bitsearch.plan import UniformBits
from bitsearch.space import SearchSpace

SPACE = SearchSpace.load("digits")


def layer_and_input(time_steps, frames):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 4))
    x = torch.rand(*(() if frames is None else (frames,)), 5, 6)
    model = CostModel(trace(network, x, time_axis=frames is not None))
    rules = AllowedBits.make(model, SPACE.choices, SPACE.first_layer)
    bits = UniformBits(weight_bits=3, spike_bits=2, time_steps=time_steps)
    converted = convert(network, rules.nearest(model, bits, granularity="layer")).eval()
    return converted, quantized_layers(converted)["2"], x


@pytest.mark.parametrize(("time_steps", "frames"), [(1, None), (3, None), (2, 4), (4, 4)])
def test_what_was_fired_is_counted_as_if_it_were_fired_anew(time_steps, frames):
    network, layer, x = layer_and_input(time_steps, frames)
    calls = []
    with torch.no_grad():
        network(x)
        layer.observer = lambda inputs, spikes, weight: calls.append((inputs, spikes))
        network(x)
    ((inputs, spikes),) = calls
    counted = layer.count(inputs, spikes)
    assert counted == layer.count(inputs)
    assert 0 < counted[0] < counted[1] == time_steps * 5 * 7
    # Every spike goes through one connection to each of the outputs.
    assert counted[2] == 4 * counted[0]


def test_a_spike_that_half_precision_rounds_to_zero_is_counted():
    network, layer, x = layer_and_input(1, None)
    calls = []
    with torch.no_grad():
        network(x)
        layer.observer = lambda inputs, spikes, weight: calls.append((inputs, spikes))
        network(x)
    ((inputs, spikes),) = calls
    assert layer.count(inputs, torch.zeros_like(spikes, dtype=torch.float16)) == layer.count(inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_samples_are_counted_one_by_one_whatever_precision_spikes_have(dtype):
    """4,099 is no number of either half precision."""
    assert nonzero_counts(torch.full((4099, 2), -0.5, dtype=dtype)).tolist() == [[4099, 4099]]
