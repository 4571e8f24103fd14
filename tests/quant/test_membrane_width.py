"""Membranes of a width: by hand, and against whole numbers of any size."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples

from bitsearch.plan import LayerPlan, NeuronSettings
from bitsearch.quant.membrane_width import membrane_width
from bitsearch.quant.neuron import refined_neuron
from bitsearch.quant.recurrence import membrane_steps


def codes(x, step, bits, width, *, decay=1.0, signed=False, framed=False, neuron=None):
    """By time step, of float32 currents."""
    recurrence = membrane_steps(
        torch.as_tensor(x),
        torch.full((len(bits),), step),
        torch.tensor([float(one) for one in bits]),
        time_steps=len(bits),
        decay=decay,
        signed=signed,
        framed=framed,
        neuron=neuron,
        width=width,
    )
    return [levels.codes.tolist() for levels, _ in recurrence]


def test_saturation_by_hand():
    # 4 bits of spikes leave 8 − 2 − 4 = 2 for parts of a step: units of a quarter, from −128 to 127 of them.
    width = membrane_width(8, (4,), signed=False)
    assert width == (8, 4, 127)
    # 100 steps are 400 units and saturate at 127: 15 are sent and 67 left, then 15 and 7, then ⌊7 / 4 + ½⌋ = 2 and −1.
    assert codes([[100.0], [0.0], [0.0], [0.0]], 1.0, (4,) * 4, width, framed=True) == [[15], [15], [2], [0]]
    assert codes([[100.0], [0.0], [0.0], [0.0]], 1.0, (4,) * 4, None, framed=True) == [[15], [15], [15], [15]]
    # 127 − 60 and 127 are 194, which is 127 again.
    assert codes([[100.0], [100.0], [0.0], [0.0]], 1.0, (4,) * 4, width, framed=True) == [[15], [15], [15], [2]]
    # Below zero: −128 and −128 are −128, and 30 steps bring it to −8; without saturation −400 would be left.
    assert codes([[-100.0], [-100.0], [30.0], [3.0]], 1.0, (4,) * 4, width, framed=True) == [[0], [0], [0], [1]]
    # Half a unit is rounded up: ⌊4·0.375 + ½⌋ = 2, half a step, which sends one.
    assert codes([[0.375], [0.36]], 1.0, (4,) * 2, width, framed=True, decay=0.0) == [[1], [0]]


@pytest.mark.parametrize(
    ("bits", "spike_bits", "signed", "units"),
    [
        (16, (4, 3), False, 1024),
        (8, (8,), True, 1),
        (8, (7,), False, 1),
        (12, (1,), True, 512),
        (24, (8,), False, 1 << 14),
    ],
)
def test_units_of_a_step(bits, spike_bits, signed, units):
    width = membrane_width(bits, spike_bits, signed=signed)
    assert width.units == units
    # The largest spike is within what is held.
    largest = 2 ** (max(spike_bits) - 1) - 1 if signed and max(spike_bits) > 1 else 2 ** max(spike_bits) - 1
    assert largest * units <= width.most


NEURONS = (
    None,
    NeuronSettings(reset="zero"),
    NeuronSettings(threshold="full"),
    NeuronSettings(threshold="full", strict=True, reset="zero"),
)


def reference(x, step, bits, width, decay, signed, neuron):
    """Codes of one current a time step, in whole numbers; ``decay`` in 16 bits."""
    neuron = neuron or NeuronSettings()

    def saturated(number):
        return max(-(1 << width.bits - 1), min(number, (1 << width.bits - 1) - 1))

    remaining, sent = 0, []
    for current, width_of_spike in zip(x, bits, strict=True):
        membrane = saturated(math.floor(Fraction(current) / Fraction(step) * width.units + Fraction(1, 2)))
        membrane = saturated(membrane + math.floor(remaining * Fraction(decay) + Fraction(1, 2)))
        level = Fraction(membrane, width.units)
        code = math.floor(level + Fraction(1, 2)) if neuron.threshold == "half" else math.floor(level)
        code = math.ceil(level) - 1 if neuron.strict else code
        largest = max(2 ** (width_of_spike - 1) - 1, 1) if signed else 2**width_of_spike - 1
        code = max(-largest if signed else 0, min(code, largest))
        if signed and width_of_spike == 1:
            code = -1 if membrane < 0 else 1
        sent.append(code)
        remaining = 0 if code and neuron.reset == "zero" else membrane - code * width.units
    return sent


@examples(200)
@given(st.data())
def test_codes_are_those_of_whole_numbers(data):
    signed = data.draw(st.booleans())
    neuron = None if signed else data.draw(st.sampled_from(NEURONS))
    bits = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=5))
    # Up to 20 bits every number that is formed is one of float32.
    width = membrane_width(data.draw(st.integers(9, 20)), bits, signed=signed)
    step, decay = 2.0 ** data.draw(st.integers(-6, 6)), data.draw(st.integers(0, 16)) / 16
    reach = data.draw(st.sampled_from([8, 60, 1000]))
    x = [[data.draw(st.integers(-reach * 64, reach * 64)) / 64 * step for _ in range(3)] for _ in range(len(bits))]
    found = codes(x, step, bits, width, decay=decay, signed=signed, framed=True, neuron=neuron)
    for sample in range(3):
        currents = [frame[sample] for frame in x]
        assert [one[sample] for one in found] == reference(currents, step, bits, width, decay, signed, neuron)


def test_gradients_are_those_without_a_width():
    generator = torch.Generator().manual_seed(0)
    x = 6 * torch.rand(200, generator=generator)
    results = []
    for width in (None, membrane_width(20, (3, 3), signed=False)):
        current, steps = x.clone().requires_grad_(), torch.full((2,), 0.5, requires_grad=True)
        latent = torch.tensor([3.0, 3.0], requires_grad=True)
        spikes = refined_neuron(current, steps, latent.detach(), latent, time_steps=2, width=width)
        spikes.square().sum().backward()
        results.append((spikes.detach(), current.grad, steps.grad, latent.grad))
    for float_result, result in zip(*results, strict=True):
        # A unit is 2^-15 of a step.
        torch.testing.assert_close(result, float_result, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("changes", [{"spike_granularity": None}, {"spike_bits": (8, 8)}])
def test_a_plan_that_no_membrane_can_keep_is_refused(changes):
    fields = {"weight_bits": 4, "spike_bits": (4, 4), "time_steps": 2, "spike_granularity": "layer", "membrane_bits": 8}
    assert LayerPlan(**fields).membrane_bits == 8
    with pytest.raises(ValueError, match="membrane_bits is 8, "):
        LayerPlan(**(fields | changes))
