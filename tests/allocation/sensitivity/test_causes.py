"""What a quantizer does to weights and spikes, by hand."""

import pytest
import torch
from torch import nn

import bitsearch
from bitsearch.allocation.sensitivity.causes import QuantizationError, spike_error, weight_error
from bitsearch.plan import UniformBits

BITS = {"weight_bits": 3, "spike_bits": 2, "time_steps": 1}


def layer(weight, **bits):
    """The second layer of a network at fixed bits, with weight and spike steps of one."""
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, len(weight)))
    with torch.no_grad():
        net[2].weight.copy_(torch.tensor(weight))
    quantized = bitsearch.quantize(net, torch.rand(3, 2), start=UniformBits(**BITS | bits))
    quantized.eval()
    quantized(torch.rand(3, 2))
    second = quantized.layers["2"]
    with torch.no_grad():
        second.weight_log_step.zero_()
        second.spike_log_step.zero_()
    return second


def test_weights_beyond_the_largest_level_are_clipped_and_others_rounded():
    error = weight_error(layer([[5.0, 2.25, 1.0, -3.0]]))
    energy = 25 + 2.25**2 + 1 + 9
    assert error.levels == 7
    assert error.clipping == pytest.approx(4 / energy)
    assert error.rounding == pytest.approx(0.25**2 / energy)
    assert error.cause == "clipping"
    assert weight_error(layer([[3.0, 2.0, -1.0, 0.0]])).cause == "none"
    assert weight_error(layer([[3.0, 2.25, -1.0, 0.0]])).cause == "rounding"
    assert weight_error(layer([[3.0, 2.25, -1.0, 0.0]], weight_bits=2)).cause == "few levels"
    assert weight_error(layer([[3.0, 2.25, -1.0, 0.0]], weight_bits=1)).levels == 2


def test_spikes_of_a_static_input():
    neurons = layer([[1.0] * 4], spike_bits=3)
    finest = [torch.tensor([[9.0, 2.25, 0.25, 0.0], [7.0, 0.0, 0.25, 0.0]])]
    spikes = [torch.tensor([[7.0, 2.0, 0.0, 0.0], [7.0, 0.0, 0.0, 0.0]])]
    error = spike_error(neurons, finest, spikes)
    energy = 81 + 2.25**2 + 2 * 0.25**2 + 49
    assert error.levels == 8
    assert error.clipping == pytest.approx(4 / energy)
    assert error.rounding == pytest.approx(3 * 0.25**2 / energy)
    assert error.binning == 0
    # Of three neurons that fire, the third has fallen silent; two of three spikes are the largest.
    assert error.silent == pytest.approx(1 / 3)
    assert error.saturated == pytest.approx(2 / 3)
    assert error.cause == "saturated neurons"


def test_averaged_frames_are_told_apart_from_rounding():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    frames = torch.rand(4, 5, 2)
    quantized = bitsearch.quantize(
        net, frames, time_axis=True, start=UniformBits(weight_bits=4, spike_bits=8, time_steps=2)
    )
    quantized.eval()
    quantized(frames)
    second = quantized.layers["2"]
    assert second.active_steps == 2
    with torch.no_grad():
        second.spike_log_step.zero_()
    finest = torch.tensor([[[1.0]], [[3.0]], [[4.0]], [[4.0]]])
    error = spike_error(second, [finest], [torch.tensor([[[2.0]], [[5.0]]])])
    assert error.binning == pytest.approx(2 / 42)
    assert error.rounding == pytest.approx(2 / 42)
    assert error.levels == 256
    error = spike_error(second, [finest], [torch.tensor([[[2.0]], [[4.0]]])])
    assert error.cause == "time binning"


def test_half_of_the_neurons_silent_is_the_cause():
    assert QuantizationError(16, 0.2, 0.1, silent=0.5, saturated=0.0).cause == "dead neurons"
    assert QuantizationError(16, 0.1, 0.2, silent=0.49, saturated=0.0).cause == "rounding"
