"""The settings of a network's own neuron, against equations written in float64 and against torch's own gradients."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from spikingjelly.activation_based import neuron as spikingjelly
from tolerances import FLOAT64

from bitsearch.plan import NeuronSettings
from bitsearch.quant.compilation import can_compile, compiled_quantizers
from bitsearch.quant.firing import spike_levels
from bitsearch.quant.matching import matching_step
from bitsearch.quant.membrane_gradient import gradients_through_time
from bitsearch.quant.neuron import refined_neuron
from bitsearch.quant.recurrence import mean_spikes

QUICK = examples(60)
SETTINGS = [
    NeuronSettings(reset=reset, threshold=threshold, strict=strict, largest=largest)
    for reset in ("subtract", "zero", "delayed")
    for threshold, strict in (("half", False), ("full", False), ("full", True))
    for largest in (None, 1.0, 3.0)
]
each_setting = pytest.mark.parametrize("settings", SETTINGS, ids=str)


def levels(u, step, bits, settings):
    """By one, of a float."""
    scaled = u / step
    if settings.threshold == "half":
        code = float(np.rint(scaled))
    elif settings.strict:
        code = math.ceil(scaled) - 1
    else:
        code = math.floor(scaled)
    most = 2**bits - 1
    if settings.largest is not None:
        most = min(most, max(round(settings.largest / step), 1))
    return min(max(code, 0), most), most


def spikes_by_hand(currents, steps, bits, decay, settings):
    """Of one neuron, by time step."""
    spikes, left = [], 0.0
    for current, step, width in zip(currents, steps, bits, strict=True):
        u = current + left
        code, _ = levels(u, step, width, settings)
        spikes.append(code * step)
        if settings.reset == "delayed":
            left = decay * u - code * step if decay else 0.0
        else:
            left = decay * (u - code * step if settings.reset == "subtract" else u * (code == 0))
    return spikes


def case(seed, time_steps=4, count=40):
    generator = np.random.default_rng(seed)
    steps = generator.choice([0.25, 0.5, 1.0, 2.0], size=time_steps)
    bits = generator.integers(1, 5, size=time_steps).tolist()
    # Eighths meet thresholds; sums with a decay of a half are exact.
    currents = generator.integers(-8, 40, size=(time_steps, count)) / 8
    return currents, steps, bits


@each_setting
@QUICK
@given(seed=st.integers(0, 2**32 - 1), decay=st.sampled_from([0.0, 0.5, 1.0]))
def test_spikes_are_those_of_the_equations(settings, seed, decay):
    currents, steps, bits = case(seed)
    result = mean_spikes(
        torch.tensor(currents),
        torch.tensor(steps),
        torch.tensor(bits, dtype=torch.float64),
        time_steps=4,
        decay=decay,
        signed=False,
        framed=True,
        neuron=settings,
    )
    expected = [spikes_by_hand(column, steps, bits, decay, settings) for column in currents.T]
    np.testing.assert_array_equal(result.numpy().T, expected)


@pytest.mark.parametrize("v_reset", [None, 0.0])
@pytest.mark.parametrize("tau", [None, 2.0, 4.0])
def test_one_bit_is_the_librarys_own_neuron(v_reset, tau):
    node = (
        spikingjelly.IFNode(v_reset=v_reset, step_mode="m")
        if tau is None
        else spikingjelly.LIFNode(tau=tau, decay_input=False, v_reset=v_reset, step_mode="m")
    )
    currents = torch.randint(-8, 24, (6, 500), generator=torch.Generator().manual_seed(0)).double() / 8
    settings = NeuronSettings(reset="subtract" if v_reset is None else "zero", threshold="full", largest=1)
    ones = torch.ones(6, dtype=torch.float64)
    for bits in (1, 4):
        spikes = refined_neuron(
            currents,
            ones,
            bits * ones,
            time_steps=6,
            decay=1.0 if tau is None else 1 - 1 / tau,
            framed=True,
            neuron=settings,
        )
        node.reset()
        assert torch.equal(spikes, node(currents))


class _Round(torch.autograd.Function):
    """Straight through."""

    @staticmethod
    def forward(ctx, x):
        return torch.floor(x + 0.5)

    @staticmethod
    def backward(ctx, grad):
        return grad


def differentiable_spikes(x, step, most, settings):
    """o of a membrane by straight-through rounding within the window, so that autograd is the reference."""
    shift = 0.5 if settings.threshold == "full" else 0.0
    codes = _Round.apply(torch.clamp(x / step - shift, 0, most))
    return codes * step


@pytest.mark.parametrize("through_time", [False, True], ids=["cut", "through time"])
@pytest.mark.parametrize("framed", [True, False], ids=["frames", "static"])
@pytest.mark.parametrize("reset", ["subtract", "zero", "delayed"])
@pytest.mark.parametrize("threshold", ["half", "full"])
@QUICK
@given(seed=st.integers(0, 2**32 - 1), decay=st.sampled_from([0.0, 0.3, 1.0]))
def test_gradients_are_those_of_straight_through_rounding(reset, threshold, framed, through_time, seed, decay):
    settings = NeuronSettings(reset=reset, threshold=threshold)
    generator = np.random.default_rng(seed)
    shape = (4, 30) if framed else (30,)
    values, bits = generator.normal(size=shape) * 3 + 1, [1, 3, 2, 4]
    sizes, grad = generator.uniform(0.3, 2, size=4), torch.tensor(generator.normal(size=shape))
    x, steps = torch.tensor(values, requires_grad=True), torch.tensor(sizes, requires_grad=True)
    latent = torch.tensor(bits, dtype=torch.float64, requires_grad=True)
    with gradients_through_time() if through_time else nullcontext():
        result = refined_neuron(
            x, steps, latent.detach(), latent, time_steps=4, decay=decay, framed=framed, neuron=settings
        )
    result.backward(grad)

    plain_x, plain_steps = torch.tensor(values, requires_grad=True), torch.tensor(sizes, requires_grad=True)
    left, sent = torch.zeros(30, dtype=torch.float64), []
    for t in range(4):
        u = (plain_x[t] if framed else plain_x) + left
        sent.append(differentiable_spikes(u, plain_steps[t], 2 ** bits[t] - 1, settings))
        if reset == "delayed":
            left = decay * u - sent[-1] if decay else torch.zeros_like(u)
        else:
            left = decay * (u - sent[-1] if reset == "subtract" else u * (sent[-1] == 0))
        left = left if through_time else left.detach()
    expected = torch.stack(sent) if framed else torch.stack(sent).mean(0)
    torch.testing.assert_close(result, expected, rtol=FLOAT64, atol=FLOAT64)
    expected.backward(grad)
    torch.testing.assert_close(x.grad, plain_x.grad, rtol=FLOAT64, atol=FLOAT64)
    scale = torch.tensor([1 / math.sqrt(30 * (2**width - 1)) for width in bits], dtype=torch.float64)
    torch.testing.assert_close(steps.grad, plain_steps.grad * scale, rtol=FLOAT64, atol=FLOAT64)


def test_the_window_of_one_bit_is_centred_on_the_threshold():
    x = torch.tensor([0.49, 0.51, 1.0, 1.49, 1.51], dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, dtype=torch.float64)
    refined_neuron(x, one, one, time_steps=1, neuron=NeuronSettings(threshold="full")).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_bits_beyond_the_largest_spike_get_no_gradient():
    x = torch.full((1, 5), 9.0, dtype=torch.float64)
    step, bits = torch.ones(1, dtype=torch.float64), torch.tensor([3.0], dtype=torch.float64)
    for largest, gets in ((None, True), (7.0, True), (6.0, False)):
        latent = bits.clone().requires_grad_()
        settings = NeuronSettings(threshold="full", largest=largest)
        refined_neuron(x, step, bits, latent, time_steps=1, framed=True, neuron=settings).sum().backward()
        assert bool(latent.grad) == gets


@pytest.mark.exhaustive
@pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="no C++ compiler: install g++")
@pytest.mark.filterwarnings("ignore")
def test_compiled_kernels_are_the_plain_ones():
    (currents, steps, bits), settings = case(3), NeuronSettings(reset="zero", threshold="full", largest=1)

    def run():
        x, sizes = torch.tensor(currents, dtype=torch.float32, requires_grad=True), torch.tensor(steps).float()
        widths = torch.tensor(bits, dtype=torch.float32)
        result = refined_neuron(x, sizes, widths, time_steps=4, decay=0.5, framed=True, neuron=settings)
        result.sum().backward()
        return result, x.grad

    plain = run()
    with compiled_quantizers():
        compiled = run()
    for one, other in zip(plain, compiled, strict=True):
        assert torch.equal(one, other)


FULL = NeuronSettings(threshold="full", largest=1.0)


def test_a_step_that_serves_best_stays():
    membrane = torch.rand(5000, generator=torch.Generator().manual_seed(0)) * 3
    one = torch.ones(())
    for bits in (1, 2, 8):
        width = torch.tensor(float(bits))
        step = matching_step(membrane, (membrane >= 1).float(), one, width, before=one, neuron=FULL)
        assert step == 1


def test_the_mean_of_two_frames_has_half_steps():
    # An integrate-and-fire neuron sends a current of x for two frames: one spike from a half on, two from one on.
    x = torch.rand(5000, generator=torch.Generator().manual_seed(0)) * 2
    spikes = (x >= 1).float() + ((x >= 0.5) & (x < 1)).float() * 0.5
    one, two = torch.ones(()), torch.tensor(2.0)
    assert matching_step(x, spikes, one, two, before=one, neuron=FULL) == 0.5


def test_at_one_time_step_more_bits_send_what_is_nearer_and_may_add_up_to_what_is_further():
    # Four frames of a static current of c thresholds, reset to zero by a spike: 4 // ⌈1 / c⌉ spikes. In one time step
    # a step of a quarter is the best of two bits and of three; the fourth level, that of the third bit, is right above
    # the threshold, and the third is a quarter too high just below it, whatever the bits.
    current = torch.rand(1 << 14, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) ** 6 * 1.25
    frames = refined_neuron(
        current.expand(4, -1),
        torch.ones(4, dtype=torch.float64),
        torch.ones(4, dtype=torch.float64),
        time_steps=4,
        framed=True,
        neuron=NeuronSettings(reset="zero", threshold="full", largest=1.0),
    ).mean(0)
    assert torch.equal(frames, (4 // (1 / current).ceil()) / 4)
    one, errors = torch.ones((), dtype=torch.float64), []
    for bits in (1.0, 2.0, 3.0, 8.0):
        width = one * bits
        step = matching_step(current, frames, one, width, before=one, neuron=FULL)
        sent = spike_levels(current, step, width, signed=False, neuron=FULL).codes * step
        errors.append(float((sent - frames).square().mean()))
        assert step == (0.25 if bits > 1 else 0.5)
    assert errors[0] > errors[1] > errors[2] == errors[3]
    pair = torch.tensor([0.9, 1.1], dtype=torch.float64)
    sums = [
        float((spike_levels(pair, one / 4, one * bits, signed=False, neuron=FULL).codes / 4).sum()) for bits in (2, 3)
    ]
    # The network's own neurons send a half and one: two bits err twice, and cancel; three bits err once.
    assert sums == [1.5, 1.75]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_matching_power_of_two_is_the_best_power(bits):
    generator = torch.Generator().manual_seed(bits)
    membrane = 3 * torch.rand(400, generator=generator, dtype=torch.float64)
    one, width, several = torch.tensor(1.0), torch.tensor(float(bits)), FULL.multi_bit()
    spikes = (membrane >= 1).double()
    step = float(matching_step(membrane, spikes, one, width, before=one, neuron=several, power_of_two=True))

    def error(step):
        return float((step * (membrane / step).floor().clamp(0, 2**bits - 1) - spikes).square().mean())

    assert step == min((2.0**exponent for exponent in range(2, -9, -1)), key=error)
