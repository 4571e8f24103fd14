import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from tolerances import FLOAT64, rounding, summed
from torch.nn import functional as F

from bitsearch.quant.frames import bin_frames, bin_weights, hold_frames, step_indices, with_time_gradient
from bitsearch.quant.neuron import refined_neuron

QUICK = examples(80)
seeds = st.integers(0, 2**32 - 1)
lengths = st.integers(1, 12).flatmap(lambda frames: st.tuples(st.just(frames), st.integers(1, frames)))


def random(seed, *shape):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


@QUICK
@given(lengths, seeds)
def test_bins_are_those_of_adaptive_average_pooling(lengths, seed):
    frames, time_steps = lengths
    x = random(seed, frames, 3, 2)
    pooled = F.adaptive_avg_pool1d(x.permute(1, 2, 0), time_steps).permute(2, 0, 1)
    # The weights of the bins are float32.
    torch.testing.assert_close(bin_frames(x, time_steps), pooled, **summed(8, x.abs().amax().item()))
    torch.testing.assert_close(bin_weights(frames, time_steps).sum(1), torch.ones(time_steps), **summed(frames))


@QUICK
@given(lengths, seeds)
def test_every_frame_shows_the_time_step_that_it_falls_into(lengths, seed):
    frames, time_steps = lengths
    y = random(seed, time_steps, 2)
    shown = hold_frames(y, frames)
    assert shown.shape == (frames, 2)
    for frame in range(frames):
        assert torch.equal(shown[frame], y[int(frame * time_steps / frames + 1e-9)])
    # No time step goes unseen, and none is seen before an earlier one.
    assert sorted(step_indices(frames, time_steps).tolist()) == step_indices(frames, time_steps).tolist()
    assert set(step_indices(frames, time_steps).tolist()) == set(range(time_steps))
    if frames % time_steps == 0:
        torch.testing.assert_close(bin_frames(shown, time_steps), y, **summed(8, y.abs().amax().item()))


@QUICK
@given(lengths, seeds)
def test_binning_passes_gradients_by_its_weights(lengths, seed):
    frames, time_steps = lengths
    x, grad = random(seed, frames, 2).requires_grad_(), random(seed + 1, time_steps, 2)
    bin_frames(x, time_steps).backward(grad)
    # The weights are float32 themselves, where they are made on another way.
    expected = bin_weights(frames, time_steps).double().T @ grad
    torch.testing.assert_close(x.grad, expected, **summed(8, grad.abs().sum(0).amax().item()))


def framed_case(seed, time_steps, signed, spare=0):
    generator = np.random.default_rng(seed)
    steps = generator.uniform(0.05, 1, size=time_steps + spare)
    bits = [int(b) for b in generator.integers(1, 9, size=time_steps + spare)]
    reach = steps[0] * reference.level_range(bits[0], signed)[1]
    x = generator.normal(size=(time_steps, 3, 2)) * reach
    return x, steps, bits, generator.normal(size=x.shape)


@QUICK
@given(st.integers(1, 5), st.integers(0, 2), st.sampled_from([0.0, 0.5, 1.0]), st.booleans(), seeds)
def test_the_neuron_on_frames_matches_the_reference(time_steps, spare, decay, signed, seed):
    x, steps, bits, grad = framed_case(seed, time_steps, signed, spare)
    given_x = torch.tensor(x, requires_grad=True)
    given_steps = torch.tensor(steps, requires_grad=True)
    latent = torch.tensor(bits, dtype=torch.float64, requires_grad=True)
    spikes = refined_neuron(
        given_x,
        given_steps,
        latent.detach(),
        latent,
        time_steps=time_steps,
        decay=decay,
        signed=signed,
        framed=True,
    )
    spikes.backward(torch.tensor(grad))
    residual = np.zeros_like(x[0])
    for t in range(time_steps):
        membrane = x[t] + decay * residual
        wanted = reference.quantize(membrane, steps[t], bits[t], signed)
        dx, ds, db = reference.quantize_gradients(membrane, steps[t], bits[t], grad[t], signed)
        np.testing.assert_allclose(spikes[t].detach(), wanted, rtol=FLOAT64, atol=FLOAT64)
        np.testing.assert_allclose(given_x.grad[t], dx, rtol=FLOAT64, atol=FLOAT64)
        np.testing.assert_allclose(given_steps.grad[t], ds, rtol=FLOAT64, atol=FLOAT64)
        np.testing.assert_allclose(latent.grad[t], db, rtol=FLOAT64, atol=FLOAT64)
        residual = membrane - wanted
    assert not given_steps.grad[time_steps:].any()
    assert not latent.grad[time_steps:].any()


@QUICK
@given(st.integers(1, 5), st.sampled_from([0.0, 0.5, 1.0]), seeds)
def test_equal_frames_are_a_static_input(time_steps, decay, seed):
    x, steps, bits, _ = framed_case(seed, time_steps, False)
    x, steps, bits = torch.tensor(x[0]), torch.tensor(steps), torch.tensor(bits, dtype=torch.float64)
    static = refined_neuron(x, steps, bits, time_steps=time_steps, decay=decay)
    frames = x.expand(time_steps, *x.shape)
    each = refined_neuron(frames, steps, bits, time_steps=time_steps, decay=decay, framed=True)
    torch.testing.assert_close(each.mean(0), static, rtol=FLOAT64, atol=FLOAT64)


IN_FLOAT32 = {"rel": rounding(16), "abs": FLOAT64}
"""A latent is float32, and so is the gradient of it; what it is a sum of is float64."""


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_the_gradient_of_time_steps_is_what_one_more_or_less_changes(frames, decay):
    x = random(3, frames, 4, 5).abs() * 3
    steps, bits = torch.full((frames,), 0.3, dtype=torch.float64), torch.full((frames,), 2.0, dtype=torch.float64)

    def spikes(time_steps):
        currents = bin_frames(x, time_steps)
        return refined_neuron(currents, steps, bits, time_steps=time_steps, decay=decay, framed=True)

    def total(time_steps):
        return hold_frames(spikes(time_steps), frames).sum()

    for time_steps in range(1, frames + 1):
        if frames % time_steps:
            continue
        latent = torch.tensor(float(time_steps), requires_grad=True)
        seen = with_time_gradient(spikes(time_steps), x, steps, bits, latent, decay=decay, signed=False)
        torch.testing.assert_close(seen, spikes(time_steps), rtol=0, atol=0)
        if frames == 1:
            assert not seen.requires_grad
            continue
        hold_frames(seen, frames).sum().backward()
        nearby = (time_steps, time_steps - 1) if time_steps > 1 else (2, 1)
        change = total(nearby[0]) - total(nearby[1])
        assert latent.grad.item() == pytest.approx(change.item(), **IN_FLOAT32)


def test_a_time_step_not_in_use_yet_is_taken_for_the_one_before_it():
    x = random(5, 4, 3).abs()
    steps, bits = torch.tensor([0.3, 1e9], dtype=torch.float64), torch.tensor([3.0, 1.0], dtype=torch.float64)
    latent = torch.tensor(1.0, requires_grad=True)
    one = refined_neuron(bin_frames(x, 1), steps, bits, time_steps=1, framed=True)
    with_time_gradient(one, x, steps, bits, latent, decay=1.0, signed=False).sum().backward()
    both = refined_neuron(bin_frames(x, 2), steps[[0, 0]], bits[[0, 0]], time_steps=2, framed=True)
    assert latent.grad.item() == pytest.approx((both.mean(0) - one[0]).sum().item(), **IN_FLOAT32)
