"""The arithmetic where it could differ: ties, large accumulators, quotients on the edge."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from torch import nn

from bitsearch.deploy.integer import interpreter as replay
from bitsearch.deploy.integer.interpreter import Replay, encode
from bitsearch.deploy.integer.operations import RunLayer
from bitsearch.deploy.integer.packed_layer import LayerNumbers, PackedLayer
from bitsearch.deploy.integer.program import NetworkInput, Program
from bitsearch.deploy.lower.float64_reference import Float64Reference
from bitsearch.deploy.lower.lowering import lower
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan


def one_layer(**changes):
    """A linear layer of one weight and unit scale, steps of 3 at the unit of the input."""
    setting = {
        "weight_shape": (1, 1),
        "weight_bits": 2,
        "spike_bits": (2,),
        "signed": False,
        "decay": 1 << 16,
        "step_fraction": 4,
        "shift": 0,
        "fraction": 0,
    }
    layer = PackedLayer(**(setting | changes))
    network_input = NetworkInput(shape=(1,), fraction=4, largest=(1 << 26) - 1)
    return Program(
        input=network_input, layers={"a": layer}, operations=(RunLayer(name="run", inputs=(0,), layer="a"),)
    ), layer


def numbers(levels=((1,),), multiplier=(1,), bias=(0,), steps=(3,)):
    return {
        "a": LayerNumbers(
            np.array(levels, dtype=np.int8), *(np.array(part, dtype=np.int32) for part in (multiplier, bias, steps))
        )
    }


def codes_of(program, tensors, currents):
    """Codes by step for currents in the unit of the input."""
    codes_by_step = []
    x = torch.tensor(currents, dtype=torch.float32).view(-1, 1) / 16
    Replay(program, tensors)(
        x, lambda name, quantity, t, codes: quantity == "spikes" and codes_by_step.append(codes.flatten().tolist())
    )
    return codes_by_step


def test_ties_go_upward_by_hand():
    # Steps of 3/16: ties are at 1.5, 4.5 and 7.5 sixteenths; at a step of 2/16 they are whole sixteenths.
    program, _ = one_layer()
    assert codes_of(program, numbers(), [-5, 0, 1, 2, 4, 5, 7, 8, 99]) == [[0, 0, 0, 1, 1, 2, 2, 3, 3]]
    assert codes_of(program, numbers(steps=(2,)), [0, 1, 2, 3, 4, 5]) == [[0, 1, 1, 2, 2, 3]]
    program, _ = one_layer(signed=True, spike_bits=(3,))
    assert codes_of(program, numbers(steps=(2,)), [-99, -5, -3, -1, 0, 1]) == [[-3, -2, -1, 0, 0, 1]]
    program, _ = one_layer(signed=True, spike_bits=(1,))
    assert codes_of(program, numbers(), [-2, -1, 0, 1]) == [[-1, -1, 1, 1]]


def test_steps_so_large_that_the_span_of_codes_passes_32_bits_divide_as_well():
    program, _ = one_layer(signed=True, spike_bits=(8,))
    # 255 steps of this size are more than 2^31; the largest input is 5.15 of them.
    step = 13_032_650
    currents = [-(1 << 26), -step // 2 - 1, -step // 2, step // 2 - 1, step // 2, 1 << 26]
    expected = [min(max((2 * x + step) // (2 * step), -127), 127) for x in currents]
    assert expected == [-5, -1, 0, 0, 1, 5]
    assert codes_of(program, numbers(steps=(step,)), currents) == [expected]


def test_the_membrane_keeps_what_was_dropped_and_its_decay_rounds_upward_at_ties():
    program, _ = one_layer(spike_bits=(1, 1, 1))
    # u: 1 → 0, residual 1; 2 → 1, residual −1; 0 → 0.
    assert codes_of(program, numbers(steps=(3, 3, 3)), [1]) == [[0], [1], [0]]
    program, _ = one_layer(spike_bits=(1, 1), decay=1 << 15)
    # Residual 1 halves to ½, which rounds to 1: u_2 = 2. Residual −1 halves to −½, which rounds to 0: u_2 = 2.
    assert codes_of(program, numbers(steps=(3, 3)), [1, 2]) == [[0, 1], [1, 1]]


def test_outputs_round_upward_at_ties_by_hand():
    program, _ = one_layer(shift=1, spike_bits=(3,))
    # ⌊(A·m + 1) / 2⌋ + b with m = −1 and A = 0 … 3.
    outputs = Replay(program, numbers(multiplier=(-1,), bias=(5,)))(torch.tensor([[0.0], [3.0], [6.0], [9.0]]) / 16)
    assert outputs.flatten().tolist() == [5, 5, 4, 4]


def test_inputs_round_upward_at_ties_and_saturate():
    program, _ = one_layer()
    x = torch.tensor([[0.5], [-0.5], [1.5], [0.4999999], [1e30], [-float("inf")]]) / 16
    largest = (1 << 26) - 1
    assert encode(x, program.input).flatten().tolist() == [1, 0, 2, 0, largest, -largest]
    with pytest.raises(InputError, match="NaN"):
        encode(torch.tensor([[float("nan")]]), program.input)
    with pytest.raises(InputError, match=r"takes \('N', 1\)"):
        encode(torch.zeros(1, 2), program.input)


@examples(300)
@given(x=st.floats(width=32, allow_nan=False, allow_infinity=False), fraction=st.integers(-64, 64))
def test_the_encoding_is_that_of_exact_arithmetic(x, fraction):
    network_input = NetworkInput(shape=(1,), fraction=fraction, largest=(1 << 26) - 1)
    exact = floor(Fraction(x) * Fraction(2) ** fraction + Fraction(1, 2))
    result = encode(torch.tensor([[x]]), network_input).item()
    assert result == max(min(exact, network_input.largest), -network_input.largest)


class Adversary(nn.Module):
    """A wide linear layer with the largest weights there are, whose output feeds a second one on ties."""

    def __init__(self, inputs):
        super().__init__()
        self.first, self.second = nn.Linear(inputs, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.second(self.first(x))


@pytest.mark.parametrize(("time_steps", "inputs"), [(1, 3000), (3, 3000), (4, 40000)])
def test_large_accumulators_and_ties_are_the_same_on_integers_and_in_float64(time_steps, inputs):
    torch.manual_seed(0)
    network = Adversary(inputs)
    plan = {
        name: LayerPlan(weight_bits=8, spike_bits=(8,) * time_steps, time_steps=time_steps, signed_input=True)
        for name in ("first", "second")
    }
    network = convert(network, plan)
    examples = torch.randn(8, inputs)
    network(examples)
    network.eval()
    with torch.no_grad():
        # Every weight at its edge, and no two steps with a common measure.
        step = network.first.weight_log_step.exp()
        network.first.weight.copy_(127 * step * torch.where(torch.rand(6, inputs) < 0.7, 1.0, -1.0))
        network.first.spike_log_step.copy_(torch.log(torch.tensor([0.013, 0.0171, 0.0113, 0.019][:time_steps])))
    lowered = lower(network, examples)
    widths = lowered.analysis.operations[0].widths
    assert widths.product >= 1 << 47
    assert widths.accumulator > (1 << 25 if time_steps == 1 else 1 << 30)
    # Inputs on the ties of the first step, one unit below them, and far beyond the range.
    packed, tensors = lowered.program.layers["first"], lowered.numbers["first"]
    unit = 2.0**-packed.step_fraction
    odd = 2 * torch.randint(-140, 140, (16, inputs)) + 1
    ties = torch.ceil(odd * int(tensors.steps[0]) / 2)
    x = torch.cat([ties * unit, (ties - 1) * unit, torch.full((1, inputs), 9.0), torch.full((1, inputs), -9.0)])
    replayed, reference = {}, {}
    replay = Replay(lowered.program, lowered.numbers)
    outputs = replay(
        x, lambda name, quantity, t, integers: quantity == "spikes" and replayed.update({(name, t): integers.long()})
    )
    exact = Float64Reference(lowered)(x, lambda name, quantity, t, integers: reference.update({(name, t): integers}))
    assert replayed.keys() == reference.keys()
    assert all(torch.equal(replayed[key], reference[key]) for key in replayed)
    assert torch.equal(torch.ldexp(outputs.double(), torch.tensor(-replay.analysis.values[-1].fraction)), exact)
    # In Python's unlimited integers as well.
    total = sum(n * replayed["first", t].numpy().astype(object) for t, n in enumerate(tensors.spike_weights))
    sums = total @ tensors.levels.T.astype(object)
    half = 1 << packed.shift >> 1
    expected = (sums * tensors.multiplier.astype(object) + half) // (1 << packed.shift) + tensors.bias.astype(object)
    currents = []
    replay(
        x,
        lambda name, quantity, t, integers: (name, quantity, t) == ("second", "membrane", 0)
        and currents.append(integers),
    )
    scale = lowered.analysis.operations[1].widths.membrane_fraction - packed.fraction
    assert (currents[0].numpy().astype(object) == expected * 2**scale).all()
    assert int(np.abs(sums).max()) <= widths.accumulator


def test_what_needs_more_than_50_bits_is_refused():
    program, _ = one_layer(spike_bits=(8, 8))
    with pytest.raises(InputError, match="run: integers of 72 bits; at most 51"):
        Replay(program, numbers(multiplier=(2**31 - 1,), steps=(2**31 - 1, 2**31 - 2)))


def test_a_batch_done_in_parts_gives_what_it_gives_at_once(monkeypatch):
    program, _ = one_layer(spike_bits=(2, 1, 3))
    x = torch.arange(-20.0, 80.0).view(-1, 1) / 16
    expected = Replay(program, numbers(steps=(3, 2, 5)))(x)
    monkeypatch.setattr(replay, "_AT_ONCE", 7)
    assert torch.equal(Replay(program, numbers(steps=(3, 2, 5)))(x), expected)
    assert expected.unique().numel() > 5
