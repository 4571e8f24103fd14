"""Random networks, converted: all that they compute is what the user's own code does on the same grids.

The reference is the float network itself, with its own neurons, its own sharing and its own reshapes. It has the
quantized weights, and in front of every layer that reads anything but spikes a quantizer that is written here, which
finds nothing below zero where the layer has no sign. Whatever conversion takes for something else than it is makes a
difference: a neuron, a reader, a decay, a sign, an axis, a shared layer.

    BITSEARCH_EXAMPLES=2000 HYPOTHESIS_PROFILE=explore pytest -n 0 tests/dataflow/test_generated_float.py

tries more than the suite does, and others each time.
"""

import copy
import os

import pytest
import torch
from generated import AGAIN, WIDTH, Generated, programs
from hypothesis import assume, given
from hypothesis import strategies as st
from profiles import examples
from spikingjelly.activation_based import functional
from test_generated_twins import FRAMES, Frames, steps
from tolerances import FLOAT64

import bitsearch

EXAMPLES = int(os.environ.get("BITSEARCH_EXAMPLES", "25"))


@torch.no_grad()
def logits(network, x):
    functional.reset_net(network)
    return network(x)


def quantizer(layer):
    """A hook that puts a layer's input on the grids of its time steps; what is dropped goes on to the next one."""
    steps, bits = layer.spike_step.detach().double(), layer.spike_bits.double()
    most = 2 ** (bits - 1) - 1 if layer.signed_input else 2**bits - 1
    least = -most if layer.signed_input else 0 * most

    def once(x, t):
        return (x / steps[t]).round().maximum(least[t]).minimum(most[t]) * steps[t]

    def hook(_, inputs):
        (x,) = inputs
        assert layer.signed_input or (x >= 0).all()
        if layer.frames is None:
            return (once(x, 0),)
        sequence = x.reshape(layer.frames, -1, *x.shape[1:]) if x.shape[0] != layer.frames else x
        sent, membrane = [], torch.zeros_like(sequence[0])
        for t, frame in enumerate(sequence):
            membrane = layer.decay * membrane + frame
            sent.append(once(membrane, t))
            membrane = membrane - sent[-1]
        return (torch.stack(sent).reshape(x.shape),)

    return hook


def on_its_grids(network, quantized):
    """A copy of the float network with the weights and inputs of the quantized one."""
    reference = copy.deepcopy(network)
    for name, layer in quantized.layers.items():
        module = reference.get_submodule(name)
        module.weight.data = layer.quantized_weight().detach()
        if not layer.neurons:
            module.register_forward_pre_hook(quantizer(layer))
    return reference


def assert_the_same(network, x, time_steps, **options):
    """``time_steps``: as many as the network has."""
    bits = bitsearch.UniformBits(weight_bits=8, spike_bits=8, time_steps=time_steps)
    choices = bitsearch.Choices(time_steps=(time_steps, time_steps))
    first = bitsearch.FirstLayer(weight_bits=8, spike_bits=8, time_steps=time_steps)
    assume(logits(network, x).isfinite().all())
    quantized = bitsearch.quantize(network, x, start=bits, choices=choices, first_layer=first, **options).eval()
    logits(quantized, x)
    expected = logits(on_its_grids(network, quantized), x)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(logits(quantized, x), expected, rtol=FLOAT64, atol=FLOAT64 * scale)


quiet = pytest.mark.filterwarnings("ignore:kept at 32 bits", "ignore:never called")


@pytest.mark.exhaustive
@quiet
@examples(EXAMPLES)
@given(programs(), st.permutations(range(8)), st.integers(0, 1000))
def test_a_static_network(program, order, seed):
    # It makes float32 of what it copies.
    assume(all(kind != "copied" for kind, _, _ in program))
    torch.manual_seed(seed)
    network = Generated(program, order).double().eval()
    for parameter in network.parameters():
        parameter.data.mul_(3)
    assert_the_same(network, torch.randn(6, WIDTH, dtype=torch.float64), 1)


@pytest.mark.exhaustive
@quiet
@examples(EXAMPLES)
@given(st.lists(steps(AGAIN), min_size=1, max_size=8), st.permutations(range(9)), st.integers(0, 1000))
def test_a_network_of_frames(program, order, seed):
    torch.manual_seed(seed)
    network = Frames(program, order, loop=False).double().eval()
    for parameter in network.parameters():
        parameter.data.mul_(3)
    x = 4 * torch.rand(FRAMES, 6, WIDTH, dtype=torch.float64)
    assert_the_same(network, x, FRAMES, time_axis=True)
