import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from tolerances import FLOAT64, rounding

from bitsearch.quant.uniform import (
    SMALLEST_STEP,
    edge_derivative,
    initial_step,
    inside_range,
    q_max,
    quantize,
    to_levels,
)

QUICK = examples(120)
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
bit_widths = st.integers(1, 8)
seeds = st.integers(0, 2**32 - 1)


def scalar(value):
    return torch.tensor(float(value), dtype=torch.float64)


def values_around(generator, shape, step, bits, signed):
    """Random values, a third of them on rounding boundaries, clip edges or zero."""
    _, q_max = reference.level_range(bits, signed)
    x = generator.normal(size=shape) * step * q_max
    special = np.array([0.0, 0.5, -0.5, 1.5, q_max - 0.5, q_max, -q_max, q_max + 0.5, -q_max - 0.5, q_max + 1, 1e3])
    chosen = generator.choice(special, size=shape) * step
    return np.where(generator.random(shape) < 1 / 3, chosen, x)


def run(x, step, bits, grad, signed):
    """(output, dx, ds, db) of the code under test, as float64 arrays."""
    x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    step = torch.tensor(step, dtype=torch.float64, requires_grad=True)
    latent = scalar(bits).requires_grad_()
    output = quantize(x, step, scalar(bits), latent, signed=signed)
    output.backward(torch.tensor(grad, dtype=torch.float64))
    return output.detach().numpy(), x.grad.numpy(), step.grad.numpy(), latent.grad.item()


@QUICK
@given(shapes, bit_widths, st.booleans(), st.floats(1e-4, 1e2), seeds)
def test_output_and_gradients_match_the_reference(shape, bits, signed, step, seed):
    generator = np.random.default_rng(seed)
    x, grad = values_around(generator, shape, step, bits, signed), generator.normal(size=shape)
    output, dx, ds, db = run(x, step, bits, grad, signed)
    wanted_dx, wanted_ds, wanted_db = reference.quantize_gradients(x, step, bits, grad, signed)
    np.testing.assert_array_equal(output, reference.quantize(x, step, bits, signed))
    np.testing.assert_array_equal(dx, wanted_dx)
    np.testing.assert_allclose(ds, wanted_ds, rtol=FLOAT64, atol=FLOAT64)
    np.testing.assert_allclose(db, wanted_db, rtol=FLOAT64, atol=FLOAT64 * step * 2**bits)


@QUICK
@given(shapes, bit_widths, st.booleans(), seeds)
def test_a_step_per_channel_matches_the_reference(shape, bits, signed, seed):
    generator = np.random.default_rng(seed)
    step = generator.uniform(0.05, 2, size=(shape[0], *[1] * (len(shape) - 1)))
    x, grad = values_around(generator, shape, step, bits, signed), generator.normal(size=shape)
    output, dx, ds, db = run(x, step, bits, grad, signed)
    wanted_dx, wanted_ds, wanted_db = reference.quantize_gradients(x, step, bits, grad, signed)
    np.testing.assert_array_equal(output, reference.quantize(x, step, bits, signed))
    np.testing.assert_array_equal(dx, wanted_dx)
    assert ds.shape == step.shape
    np.testing.assert_allclose(ds, wanted_ds, rtol=FLOAT64, atol=FLOAT64)
    np.testing.assert_allclose(db, wanted_db, rtol=FLOAT64, atol=FLOAT64)


@QUICK
@given(shapes, bit_widths, st.booleans(), seeds)
def test_a_step_per_channel_equals_one_call_a_channel(shape, bits, signed, seed):
    generator = np.random.default_rng(seed)
    step = generator.uniform(0.05, 2, size=(shape[0], *[1] * (len(shape) - 1)))
    x, grad = values_around(generator, shape, step, bits, signed), generator.normal(size=shape)
    output, dx, ds, db = run(x, step, bits, grad, signed)
    single = [run(x[c], step[c].item(), bits, grad[c], signed) for c in range(shape[0])]
    np.testing.assert_array_equal(output, np.stack([each[0] for each in single]))
    np.testing.assert_array_equal(dx, np.stack([each[1] for each in single]))
    np.testing.assert_allclose(ds.ravel(), [each[2] for each in single], rtol=FLOAT64, atol=FLOAT64)
    np.testing.assert_allclose(db, sum(each[3] for each in single), rtol=FLOAT64, atol=FLOAT64)


@QUICK
@given(shapes, bit_widths, st.booleans(), seeds)
def test_single_precision_stays_on_the_grid_and_in_range(shape, bits, signed, seed):
    generator = np.random.default_rng(seed)
    step = torch.tensor(float(generator.uniform(1e-3, 10)))
    x = torch.tensor(generator.standard_t(2, size=shape) * 10, dtype=torch.float32)
    codes = to_levels(x, step, torch.tensor(float(bits)), signed=signed).codes
    q_min, q_max = reference.level_range(bits, signed)
    assert codes.dtype == torch.float32
    assert torch.equal(codes, codes.round())
    assert q_min <= codes.min()
    assert codes.max() <= q_max
    assert torch.equal(quantize(x, step, torch.tensor(float(bits)), signed=signed), codes * step)
    assert len(codes.unique()) <= 2**bits


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", range(1, 9))
def test_largest_level_by_hand(bits, signed):
    wanted = {True: [1, 1, 3, 7, 15, 31, 63, 127], False: [1, 3, 7, 15, 31, 63, 127, 255]}[signed][bits - 1]
    assert q_max(scalar(bits), signed=signed).item() == wanted


def test_values_at_half_steps_round_to_even():
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5])
    assert quantize(x, torch.tensor(1.0), torch.tensor(4.0), signed=True).tolist() == [0, 2, 2, 0, -2, -2]
    assert quantize(x, torch.tensor(1.0), torch.tensor(4.0), signed=False).tolist() == [0, 2, 2, 0, 0, 0]


@pytest.mark.parametrize(("signed", "bits"), [(True, 3), (False, 2)])
def test_the_clip_edge_belongs_to_the_inside(signed, bits):
    step, q_max = 0.5, 3
    edge = q_max * step
    x = np.array([edge, np.nextafter(edge, 9), np.nextafter(edge, 0), edge + step / 4])
    _, dx, _, db = run(x, step, bits, np.ones(4), signed)
    assert dx.tolist() == [1, 0, 1, 0]
    assert db == pytest.approx(2 * math.log(2) * step * 4)


def test_the_lower_edge_of_an_unsigned_grid_is_zero():
    output, dx, ds, db = run(np.array([0.0, -0.1, -5.0]), 0.5, 3, np.ones(3), False)
    assert output.tolist() == [0, 0, 0]
    assert dx.tolist() == [1, 0, 0]
    assert ds == 0
    assert db == 0


@QUICK
@given(st.floats(1e-3, 1e2), seeds)
def test_one_signed_bit_is_plus_or_minus_one_step(step, seed):
    x = np.append(np.random.default_rng(seed).normal(size=20) * step, [0.0, step, -step])
    output, *_ = run(x, step, 1, np.ones_like(x), True)
    np.testing.assert_array_equal(output, np.where(x >= 0, step, -step))


@QUICK
@given(st.floats(1e-3, 1e2), seeds)
def test_one_unsigned_bit_fires_above_half_a_step(step, seed):
    x = np.random.default_rng(seed).uniform(-1, 3, size=20) * step
    output, *_ = run(x, step, 1, np.ones_like(x), False)
    np.testing.assert_array_equal(output, np.where(x > step / 2, step, 0))


def test_one_unsigned_bit_at_its_threshold():
    half = np.float64(0.5)
    output, *_ = run(np.array([np.nextafter(half, 0), half, np.nextafter(half, 1)]), 1.0, 1, np.ones(3), False)
    assert output.tolist() == [0, 0, 1]


@QUICK
@given(bit_widths, st.booleans(), st.floats(1e-2, 10), st.floats(1.01, 50), st.sampled_from([1, -1]))
def test_bit_gradient_is_the_derivative_of_the_clip_edge(bits, signed, step, beyond, side):
    if not signed:
        side = 1
    if signed and bits == 1:
        bits = 2
    _, q_max = reference.level_range(bits, signed)
    x = np.array([side * (q_max + beyond) * step])
    _, _, _, db = run(x, step, bits, np.ones(1), signed)

    def clipped(fractional_bits):
        return side * step * (2 ** (fractional_bits - 1) - 1 if signed else 2**fractional_bits - 1)

    difference = (clipped(bits + 1e-5) - clipped(bits - 1e-5)) / 2e-5
    # Off by the third derivative's share, 1e-10, and by roundings over the distance, 1e-11.
    assert db == pytest.approx(difference, rel=1e-6)
    assert db * side > 0


@QUICK
@given(st.integers(2, 8), st.booleans(), seeds)
def test_bit_gradient_is_the_difference_quotient_of_the_forward_pass_at_fractional_bits(bits, signed, seed):
    generator = np.random.default_rng(seed)
    _, q_max = reference.level_range(bits, signed)
    x = torch.tensor(generator.normal(size=30) * q_max * 2)
    x = torch.where((x.abs() - q_max).abs() < 1.01, x * 2 + 3 * x.sign(), x)
    grad, step = torch.tensor(generator.normal(size=30)), scalar(0.3)

    def output(fractional_bits):
        return (to_levels(x * step, step, scalar(fractional_bits), signed=signed).clipped * step * grad).sum().item()

    _, _, _, db = run((x * step).numpy(), 0.3, bits, grad.numpy(), signed)
    # One-sided: below two bits a signed grid keeps its largest level at 1.
    # Off by the second derivative's share, 1e-6, and by roundings over the distance, 1e-10.
    assert db == pytest.approx((output(bits + 1e-6) - output(bits)) / 1e-6, rel=1e-5, abs=1e-6)


@QUICK
@given(bit_widths, st.booleans(), seeds)
def test_clipped_outputs_follow_the_step_and_ignore_the_input(bits, signed, seed):
    generator = np.random.default_rng(seed)
    _, q_max = reference.level_range(bits, signed)
    x = generator.uniform(q_max + 1, q_max + 9, size=6) * (generator.choice([-1, 1], size=6) if signed else 1)
    grad = generator.normal(size=6)
    _, dx, ds, _ = run(x, 1.0, bits, grad, signed)
    assert not dx.any()
    difference = (
        grad * (reference.quantize(x, 1 + 1e-6, bits, signed) - reference.quantize(x, 1 - 1e-6, bits, signed))
    ).sum() / 2e-6
    # Linear in between, so off by roundings over the distance alone: 1e-10 of each term.
    assert ds == pytest.approx(difference / math.sqrt(6 * q_max), rel=1e-6, abs=1e-8)


@QUICK
@given(shapes, st.integers(2, 8), st.booleans(), seeds)
def test_the_gradient_passes_unchanged_inside_the_range(shape, bits, signed, seed):
    generator = np.random.default_rng(seed)
    q_min, q_max = reference.level_range(bits, signed)
    x, grad = generator.uniform(q_min, q_max, size=shape) * 0.7, generator.normal(size=shape)
    _, dx, _, db = run(x, 0.7, bits, grad, signed)
    np.testing.assert_array_equal(dx, grad)
    assert db == 0


def test_bit_gradient_by_hand():
    _, _, _, signed = run(np.array([9.0, -9.0, 1.0]), 1.0, 3, np.array([2.0, 3.0, 5.0]), True)
    assert signed == pytest.approx((2 - 3) * math.log(2) * 2**2)
    _, _, _, unsigned = run(np.array([9.0, -9.0, 1.0]), 1.0, 2, np.array([2.0, 3.0, 5.0]), False)
    assert unsigned == pytest.approx(2 * math.log(2) * 2**2)
    _, _, _, one_spike_bit = run(np.array([9.0]), 0.5, 1, np.array([1.0]), False)
    assert one_spike_bit == pytest.approx(math.log(2) * 0.5 * 2)


def test_one_signed_bit_has_no_bit_gradient():
    assert run(np.array([9.0, -3.0, 0.1]), 1.0, 1, np.ones(3), True)[3] == 0
    assert edge_derivative(scalar(1.0), scalar(1), signed=True).item() == 0
    assert edge_derivative(scalar(1.0), scalar(2), signed=True).item() == pytest.approx(2 * math.log(2))


def test_the_step_gradient_scale_is_applied_once():
    _, _, ds, _ = run(np.full((4, 4), 100.0), 1.0, 3, np.ones((4, 4)), True)
    assert ds == pytest.approx(16 * 3 / math.sqrt(16 * 3))
    _, _, per_channel, _ = run(np.full((4, 4), 100.0), np.ones((4, 1)), 3, np.ones((4, 4)), True)
    assert per_channel.ravel() == pytest.approx([4 * 3 / math.sqrt(4 * 3)] * 4)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (0, 2, 4, 4)])
def test_an_empty_batch_has_zero_gradients(shape):
    output, dx, ds, db = run(np.zeros(shape), 0.5, 3, np.zeros(shape), True)
    assert output.shape == dx.shape == shape
    assert ds == 0
    assert db == 0


def test_zeros_stay_zeros_and_get_the_gradient():
    for signed in (True, False):
        output, dx, ds, db = run(np.zeros(4), 0.5, 3, np.ones(4), signed)
        assert not output.any()
        assert dx.tolist() == [1] * 4
        assert ds == 0
        assert db == 0


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", range(1, 9))
def test_nan_stays_nan_and_shows_in_the_steps_gradient(bits, signed):
    output, dx, ds, _ = run(np.array([np.nan, 1.0, -1.0, 0.0]), 1.0, bits, np.ones(4), signed)
    assert np.isnan(output).tolist() == [True, False, False, False]
    assert np.isfinite(dx).all()
    assert np.isnan(ds)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", range(1, 9))
def test_infinity_is_clipped_and_gets_no_gradient(bits, signed):
    q_min, q_max = reference.level_range(bits, signed)
    output, dx, ds, db = run(np.array([np.inf, -np.inf, 0.25]), 0.25, bits, np.ones(3), signed)
    assert output.tolist() == [0.25 * q_max, 0.25 * q_min, 0.25]
    assert dx.tolist() == [0, 0, 1]
    assert ds == pytest.approx((q_max + q_min) / math.sqrt(3 * q_max))
    # Both edges move apart; on a grid from zero only one of them moves.
    assert db == pytest.approx(0 if signed else reference.edge_slope(0.25, bits, False))


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_subnormal_values_are_zeros_of_any_other_step(bits, signed):
    x = torch.tensor([1e-45, 1e-42, -1e-42, 1e-39], requires_grad=True)
    step = torch.tensor(SMALLEST_STEP, requires_grad=True)
    output = quantize(x, step, torch.tensor(float(bits)), signed=signed)
    output.sum().backward()
    sign = torch.tensor([1.0, 1.0, -1.0, 1.0])
    assert torch.equal(output, step * sign if signed and bits == 1 else torch.zeros(4))
    assert x.grad.tolist() == ([1, 1, 1, 1] if signed else [1, 1, 0, 1])
    assert step.grad.isfinite()


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_the_largest_numbers_over_the_smallest_step_are_clipped(bits, signed):
    # x / s overflows to infinity.
    x = torch.tensor([3e38, -3e38], requires_grad=True)
    step = torch.tensor(SMALLEST_STEP, requires_grad=True)
    latent = torch.tensor(float(bits), requires_grad=True)
    output = quantize(x, step, latent.detach(), latent, signed=signed)
    output.sum().backward()
    q_min, q_max = reference.level_range(bits, signed)
    assert torch.equal(output, torch.tensor([q_max, q_min]) * step)
    assert x.grad.tolist() == [0, 0]
    assert step.grad.isfinite()
    assert latent.grad.isfinite()


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("signed", [True, False])
def test_every_half_step_and_both_edges_match_the_reference(bits, signed):
    q_min, q_max = reference.level_range(bits, signed)
    x = np.arange(2 * q_min - 3, 2 * q_max + 4) / 2 * 0.25
    grad = np.linspace(-1, 1, len(x))
    output, dx, ds, db = run(x, 0.25, bits, grad, signed)
    wanted_dx, wanted_ds, wanted_db = reference.quantize_gradients(x, 0.25, bits, grad, signed)
    np.testing.assert_array_equal(output, reference.quantize(x, 0.25, bits, signed))
    np.testing.assert_array_equal(dx, wanted_dx)
    assert ds == pytest.approx(wanted_ds, abs=FLOAT64)
    assert db == pytest.approx(wanted_db, abs=FLOAT64)


def test_fixed_bits_need_no_latent_and_the_bit_width_itself_gets_no_gradient():
    x, step = torch.randn(5, requires_grad=True), torch.tensor(0.1, requires_grad=True)
    bits = torch.tensor(3.0, requires_grad=True)
    quantize(x, step, bits, signed=True).sum().backward()
    assert bits.grad is None
    assert x.grad is not None
    assert step.grad is not None


def test_inside_range_marks_both_edges():
    levels = to_levels(torch.tensor([-3.0, -3.01, 0.0, 3.0, 3.01]), torch.tensor(1.0), torch.tensor(3.0), signed=True)
    assert inside_range(levels).tolist() == [True, False, True, True, False]
    levels = to_levels(torch.tensor([-0.01, 0.0, 7.0, 7.01]), torch.tensor(1.0), torch.tensor(3.0), signed=False)
    assert inside_range(levels).tolist() == [False, True, True, False]


A_MEAN = 2 * rounding(256 + 8)
"""Relative, in float32: of the magnitudes of 256 elements at most."""


@QUICK
@given(shapes, bit_widths, st.booleans(), seeds)
def test_initial_step_is_twice_the_mean_magnitude_over_the_root_of_the_largest_level(shape, bits, signed, seed):
    tensor = torch.tensor(np.random.default_rng(seed).normal(size=shape))
    # What is negative counts as zero where the grid is unsigned.
    x = tensor.numpy() if signed else np.maximum(tensor.numpy(), 0)
    _, q_max = reference.level_range(bits, signed)
    whole = initial_step(tensor, scalar(bits), signed=signed)
    assert whole.shape == ()
    assert whole.item() == pytest.approx(max(2 * np.abs(x).mean() / math.sqrt(q_max), SMALLEST_STEP), rel=A_MEAN)
    if len(shape) > 1:
        channels = initial_step(tensor, scalar(bits), signed=signed, per_channel=True)
        assert channels.shape == (shape[0], *[1] * (len(shape) - 1))
        wanted = np.maximum(2 * np.abs(x).reshape(shape[0], -1).mean(1) / math.sqrt(q_max), SMALLEST_STEP)
        np.testing.assert_allclose(channels.numpy().ravel(), wanted, rtol=A_MEAN)


def test_initial_step_of_zeros_is_positive():
    assert initial_step(torch.zeros(3, 3), torch.tensor(4.0), signed=True).item() == pytest.approx(SMALLEST_STEP)
    channels = initial_step(torch.zeros(3, 3), torch.tensor(4.0), signed=True, per_channel=True)
    assert (channels > 0).all()
