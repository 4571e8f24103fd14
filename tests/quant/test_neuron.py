import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from spikingjelly.activation_based.neuron import IFNode
from tolerances import FLOAT64

from bitsearch.quant.neuron import refined_neuron
from bitsearch.quant.recurrence import mean_spikes, membrane_steps
from bitsearch.quant.uniform import SMALLEST_STEP, quantize

QUICK = examples(100)
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
seeds = st.integers(0, 2**32 - 1)
decays = st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0])


def run(x, steps, bits, time_steps, decay, signed, grad):
    """(ō, dx, ds, db, dT) of the code under test, as float64 arrays."""
    x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    steps = torch.tensor(steps, dtype=torch.float64, requires_grad=True)
    bits = torch.tensor(bits, dtype=torch.float64)
    bits_latent = bits.clone().requires_grad_()
    time_latent = torch.tensor(float(time_steps), dtype=torch.float64, requires_grad=True)
    output = refined_neuron(x, steps, bits, bits_latent, time_latent, time_steps=time_steps, decay=decay, signed=signed)
    output.backward(torch.as_tensor(grad, dtype=torch.float64))
    grads = (tensor.grad.numpy() for tensor in (x, steps, bits_latent))
    return (output.detach().numpy(), *grads, time_latent.grad.item())


def random_case(seed, shape, time_steps, spare, signed):
    generator = np.random.default_rng(seed)
    steps = generator.uniform(0.05, 1, size=time_steps + spare)
    bits = generator.integers(1, 9, size=time_steps + spare)
    reach = steps[0] * reference.level_range(int(bits[0]), signed)[1]
    x = generator.normal(size=shape) * reach
    boundary = generator.choice([0.0, 0.5 * steps[0], reach, reach + steps[0], -steps[0]], size=shape)
    x = np.where(generator.random(shape) < 0.2, boundary, x)
    return x, steps, [int(b) for b in bits], generator.normal(size=shape)


@QUICK
@given(shapes, st.integers(1, 4), st.integers(0, 2), decays, st.booleans(), seeds)
def test_output_and_gradients_match_the_reference(shape, time_steps, spare, decay, signed, seed):
    x, steps, bits, grad = random_case(seed, shape, time_steps, spare, signed)
    output, dx, ds, db, dt = run(x, steps, bits, time_steps, decay, signed, grad)
    wanted_dx, wanted_ds, wanted_db, wanted_dt = reference.neuron_gradients(
        x, steps, bits, time_steps, decay, signed, grad
    )
    np.testing.assert_allclose(
        output, reference.neuron(x, steps, bits, time_steps, decay, signed), rtol=FLOAT64, atol=FLOAT64
    )
    np.testing.assert_allclose(dx, wanted_dx, rtol=FLOAT64, atol=FLOAT64)
    np.testing.assert_allclose(ds, wanted_ds, rtol=FLOAT64, atol=FLOAT64)
    np.testing.assert_allclose(db, wanted_db, rtol=FLOAT64, atol=FLOAT64)
    np.testing.assert_allclose(dt, wanted_dt, rtol=FLOAT64, atol=FLOAT64)


@QUICK
@given(shapes, st.integers(1, 4), st.integers(1, 3), st.booleans(), seeds)
def test_unused_time_steps_get_zero_gradient_and_do_not_matter(shape, time_steps, spare, signed, seed):
    x, steps, bits, grad = random_case(seed, shape, time_steps, spare, signed)
    output, _, ds, db, _ = run(x, steps, bits, time_steps, 1.0, signed, grad)
    assert not ds[time_steps:].any()
    assert not db[time_steps:].any()
    others = np.where(np.arange(len(steps)) < time_steps, steps, 17.0)
    np.testing.assert_array_equal(run(x, others, bits, time_steps, 1.0, signed, grad)[0], output)


@QUICK
@given(shapes, st.integers(1, 8), st.booleans(), seeds)
def test_one_time_step_is_the_plain_quantizer(shape, bits, signed, seed):
    x, steps, _, grad = random_case(seed, shape, 1, 0, signed)
    output, dx, ds, db, _ = run(x, steps, [bits], 1, 1.0, signed, grad)
    plain_x = torch.tensor(x, requires_grad=True)
    plain_step = torch.tensor(steps[0], dtype=torch.float64, requires_grad=True)
    width = torch.tensor(float(bits), dtype=torch.float64)
    latent = width.clone().requires_grad_()
    plain = quantize(plain_x, plain_step, width, latent, signed=signed)
    plain.backward(torch.tensor(grad))
    np.testing.assert_array_equal(output, plain.detach().numpy())
    np.testing.assert_array_equal(dx, plain_x.grad.numpy())
    np.testing.assert_allclose(ds, [plain_step.grad.item()], rtol=FLOAT64)
    np.testing.assert_allclose(db, [latent.grad.item()], rtol=FLOAT64)


@QUICK
@given(shapes, st.integers(1, 4), decays, seeds)
def test_time_gradient_is_minus_the_mean_output_over_time(shape, time_steps, decay, seed):
    x, steps, bits, _ = random_case(seed, shape, time_steps, 0, False)
    x = np.abs(x) + steps[0]
    grad = np.random.default_rng(seed).uniform(0.1, 1, size=shape)
    output, *_, dt = run(x, steps, bits, time_steps, decay, False, grad)
    assert dt == pytest.approx(-(grad * output).sum() / time_steps)
    assert dt < 0


def test_time_gradient_is_the_derivative_of_the_division():
    x, steps, bits = np.array([0.9, 2.2]), [0.5, 0.25, 0.5], [3, 2, 1]
    *_, dt = run(x, steps, bits, 3, 1.0, False, np.ones(2))
    total = 3 * reference.neuron(x, steps, bits, 3, 1.0, False).sum()
    # Off by the third derivative's share, 1e-12, and by roundings over the distance, 1e-10.
    assert dt == pytest.approx((total / (3 + 1e-6) - total / (3 - 1e-6)) / 2e-6, rel=10 * FLOAT64)


@QUICK
@given(st.floats(0.05, 2), st.integers(1, 8), st.integers(1, 40), seeds)
def test_one_bit_without_decay_is_an_integrate_and_fire_neuron(step, time_steps, elements, seed):
    x = torch.tensor(np.random.default_rng(seed).uniform(-0.5, 1.5, size=elements) * step)
    node = IFNode(v_threshold=step, v_reset=None)
    node.v = torch.full_like(x, step / 2)
    fired = torch.stack([node(x) for _ in range(time_steps)])
    steps, bits = torch.full((time_steps,), step, dtype=torch.float64), torch.ones(time_steps, dtype=torch.float64)
    ours = refined_neuron(x, steps, bits, time_steps=time_steps)
    torch.testing.assert_close(ours, fired.mean(0) * step, rtol=FLOAT64, atol=FLOAT64)
    each = membrane_steps(x, steps, bits, time_steps=time_steps, decay=1.0, signed=False)
    assert torch.equal(torch.stack([levels.codes for levels, _ in each]), fired)


def test_an_integrate_and_fire_neuron_that_fires_every_third_step():
    x = torch.full((1,), 0.34, dtype=torch.float64)
    ones = torch.ones(6, dtype=torch.float64)
    each = membrane_steps(x, ones, ones, time_steps=6, decay=1.0, signed=False)
    assert [spikes.item() for _, spikes in each] == [0, 1, 0, 0, 1, 0]


@QUICK
@given(seeds, st.integers(2, 8), st.integers(1, 8))
def test_without_decay_more_steps_carry_what_quantization_dropped(seed, time_steps, bits):
    step = 0.5
    reach = step * (2**bits - 1)
    x = np.random.default_rng(seed).uniform(0, reach, size=20)
    output = carried_mean(x, step, bits, time_steps)
    assert np.abs(output - x).max() <= step / 2 / time_steps + FLOAT64


def carried_mean(x, step, bits, time_steps):
    steps = torch.full((time_steps,), step, dtype=torch.float64)
    widths = torch.full((time_steps,), float(bits), dtype=torch.float64)
    return mean_spikes(torch.tensor(x), steps, widths, time_steps=time_steps, decay=1.0, signed=False).numpy()


def test_two_steps_by_hand():
    output, dx, ds, db, dt = run(np.array([1.3]), [1.0, 0.5], [1, 2], 2, 1.0, False, np.array([1.0]))
    # u1 = 1.3, o1 = 1 (clipped); u2 = 0.3 + 1.3 = 1.6, 1.6 / 0.5 = 3.2, o2 = 1.5 (clipped at 3).
    assert output.item() == pytest.approx(1.25)
    assert dx.item() == 0
    assert ds == pytest.approx([1 / 2, 3 / 2 / math.sqrt(3)])
    assert db == pytest.approx([math.log(2) * 1.0 * 2 / 2, math.log(2) * 0.5 * 4 / 2])
    assert dt == pytest.approx(-1.25 / 2)


def test_decay_by_hand():
    output, dx, *_ = run(np.array([0.75]), [1.0, 1.0], [2, 2], 2, 0.5, False, np.array([1.0]))
    # u1 = 0.75, o1 = 1; u2 = 0.5 · (−0.25) + 0.75 = 0.625, o2 = 1.
    assert output.item() == 1
    assert dx.item() == 1
    weaker, *_ = run(np.array([0.6]), [1.0, 1.0], [2, 2], 2, 1.0, False, np.array([1.0]))
    # u2 = −0.4 + 0.6 = 0.2, o2 = 0.
    assert weaker.item() == 0.5


def test_input_gradient_counts_the_steps_inside_the_range():
    _, dx, *_ = run(np.array([1.3]), [1.0, 1.0], [1, 3], 2, 1.0, False, np.array([1.0]))
    # Clipped at the first step, inside at the second.
    assert dx.item() == 0.5


def test_a_signed_neuron_mirrors_its_input():
    generator = np.random.default_rng(3)
    x, steps, bits = generator.normal(size=50), [0.1, 0.2, 0.3], [4, 3, 2]
    positive = reference.neuron(x, steps, bits, 3, 1.0, True)
    np.testing.assert_allclose(run(x, steps, bits, 3, 1.0, True, np.ones(50))[0], positive, atol=FLOAT64)
    np.testing.assert_allclose(run(-x, steps, bits, 3, 1.0, True, np.ones(50))[0], -positive, atol=FLOAT64)


@pytest.mark.parametrize("shape", [(0,), (0, 4, 4)])
def test_an_empty_batch_has_zero_gradients(shape):
    output, dx, ds, db, dt = run(np.zeros(shape), [0.5, 0.5], [2, 2], 2, 1.0, False, np.zeros(shape))
    assert output.shape == dx.shape == shape
    assert not ds.any()
    assert not db.any()
    assert dt == 0


@pytest.mark.parametrize("decay", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("signed", [True, False])
def test_infinity_is_clipped_at_every_step_and_gets_no_gradient(signed, decay):
    steps, bits = [0.5, 0.25, 0.5], [3, 2, 1]
    output, dx, ds, db, dt = run(np.array([np.inf, -np.inf]), steps, bits, 3, decay, signed, np.ones(2))
    largest = sum(step * reference.level_range(width, signed)[1] for step, width in zip(steps, bits, strict=True)) / 3
    assert output == pytest.approx([largest, -largest if signed else 0])
    assert dx.tolist() == [0, 0]
    assert np.isfinite([*ds, *db, dt]).all()


@pytest.mark.parametrize("decay", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("bits", [1, 3])
@pytest.mark.parametrize("signed", [True, False])
def test_nan_stays_nan_and_disturbs_no_other_element(signed, bits, decay):
    output, dx, ds, *_ = run(np.array([np.nan, 0.5]), [0.5, 0.5], [bits] * 2, 2, decay, signed, np.ones(2))
    clean, clean_dx, *_ = run(np.array([0.5]), [0.5, 0.5], [bits] * 2, 2, decay, signed, np.ones(1))
    assert np.isnan(output).tolist() == [True, False]
    assert output[1] == clean
    assert dx.tolist() == [0, clean_dx]
    assert np.isnan(ds).all()


@pytest.mark.parametrize("signed", [True, False])
def test_without_memory_every_step_is_the_plain_quantizer(signed):
    x = np.random.default_rng(0).normal(size=40)
    output, *_ = run(x, [0.25, 0.5], [3, 2], 2, 0.0, signed, np.ones(40))
    plain = (reference.quantize(x, 0.25, 3, signed) + reference.quantize(x, 0.5, 2, signed)) / 2
    np.testing.assert_allclose(output, plain, rtol=FLOAT64)


@pytest.mark.parametrize("signed", [True, False])
def test_subnormal_inputs_have_finite_gradients(signed):
    x = torch.tensor([1e-45, -1e-45, 1e-39], requires_grad=True)
    steps = torch.full((3,), SMALLEST_STEP, requires_grad=True)
    refined_neuron(x, steps, torch.tensor([3.0, 1.0, 8.0]), time_steps=3, signed=signed).sum().backward()
    assert x.grad.isfinite().all()
    assert steps.grad.isfinite().all()


def test_zeros_never_spike_but_let_the_gradient_through():
    output, dx, ds, db, dt = run(np.zeros(5), [0.5, 0.5], [1, 3], 2, 1.0, False, np.ones(5))
    assert not output.any()
    assert dx.tolist() == [1] * 5
    assert not ds.any()
    assert not db.any()
    assert dt == 0


def test_latents_are_optional():
    x, steps = torch.rand(4, requires_grad=True), torch.tensor([0.3, 0.3], requires_grad=True)
    output = refined_neuron(x, steps, torch.tensor([2.0, 2.0]), time_steps=2)
    output.sum().backward()
    assert x.grad is not None
    assert steps.grad is not None
    assert torch.equal(output, mean_spikes(x, steps, torch.tensor([2.0, 2.0]), time_steps=2, decay=1.0, signed=False))
