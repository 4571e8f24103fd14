import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from tolerances import FLOAT64, summed

from bitsearch.quant.sigmoid import (
    MAX_ARGUMENT,
    hard_codes,
    sigmoid_levels,
    sigmoid_scale,
    sigmoid_thresholds,
    soft_quantize,
    temperature,
)

BITS = st.integers(1, 5)


def reference(x, alpha, beta, thresholds, levels, tau):
    """The published formula in float64, term by term."""
    heights = np.diff(levels)
    steps = np.clip(tau * (beta * x[..., None] - thresholds), -MAX_ARGUMENT, MAX_ARGUMENT)
    return alpha * ((heights / (1 + np.exp(-steps))).sum(-1) - heights.sum() / 2)


def setting(bits, seed, dtype=torch.float64):
    torch.manual_seed(seed)
    x = torch.randn(7, 5, dtype=dtype)
    levels = sigmoid_levels(bits).to(dtype)
    beta = sigmoid_scale(x, levels)
    return x, 1.3 / beta, beta, sigmoid_thresholds(beta * x, levels).to(dtype), levels


@examples(30)
@given(BITS, st.floats(0.1, 50), st.integers(0, 1000))
def test_values_are_those_of_the_formula(bits, tau, seed):
    x, *rest = setting(bits, seed)
    found = soft_quantize(x, *rest, tau)
    numbers = [value.numpy() for value in rest]
    np.testing.assert_allclose(found.numpy(), reference(x.numpy(), *numbers, tau), rtol=FLOAT64, atol=FLOAT64)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_gradients_are_those_of_finite_differences(bits):
    x, alpha, beta, thresholds, levels = setting(bits, seed=bits)
    for value in (x, alpha, beta):
        value.requires_grad_()
    # No argument is at the clamp, where the slope jumps.
    assert torch.autograd.gradcheck(lambda *inputs: soft_quantize(*inputs, thresholds, levels, 0.7), (x, alpha, beta))


def test_beyond_the_clamp_there_is_no_gradient():
    x = torch.tensor([-3.0, 0.0, 3.0], requires_grad=True)
    levels = sigmoid_levels(1)
    soft_quantize(x, torch.tensor(1.0), torch.tensor(1.0), torch.zeros(1), levels, 5.0).sum().backward()
    # σ′(0) = 1/4, times the height 2 and τ = 5.
    assert x.grad.tolist() == [0.0, 2.5, 0.0]


def test_level_sets():
    assert sigmoid_levels(1).tolist() == [-1, 1]
    assert sigmoid_levels(2).tolist() == [-1, 0, 1]
    assert sigmoid_levels(3).tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert sigmoid_levels(3, largest=2).tolist() == [-2, -1, 0, 1, 2]
    assert sigmoid_levels(4, largest=4).tolist() == list(range(-4, 5))
    assert sigmoid_levels(2, largest=4).tolist() == [-1, 0, 1]


def test_where_thresholds_start():
    assert sigmoid_thresholds(torch.randn(9), sigmoid_levels(1)).tolist() == [0.0]
    assert sigmoid_thresholds(torch.randn(9), sigmoid_levels(2)).tolist() == pytest.approx([-0.05, 0.05])
    # Five clusters, far apart: the midpoints lie between them.
    centres = torch.tensor([-4.0, -1.5, 0.0, 1.0, 3.0])
    values = (centres[:, None] + torch.linspace(-0.1, 0.1, 9)).flatten()
    found = sigmoid_thresholds(values, sigmoid_levels(3, largest=2))
    assert found.tolist() == pytest.approx([-2.75, -0.75, 0.5, 2.0], abs=summed(9 + 2, 4.0)["atol"])
    # Too few different values to cluster.
    assert sigmoid_thresholds(torch.ones(4), sigmoid_levels(3, largest=2)).tolist() == [-1.5, -0.5, 0.5, 1.5]


def test_the_scale_puts_the_largest_weight_a_quarter_beyond_the_largest_level():
    assert float(sigmoid_scale(torch.tensor([0.5, -2.0]), sigmoid_levels(3))) == pytest.approx(1.25 * 3 / 2)


@examples(30)
@given(BITS, st.integers(0, 1000))
def test_the_hotter_the_nearer_to_hard_steps(bits, seed):
    x, alpha, beta, thresholds, levels = setting(bits, seed)
    hard = alpha * hard_codes(x, beta, thresholds, levels)
    # Away from the steps themselves.
    far = (beta * x[..., None] - thresholds).abs().min(-1).values > 0.02
    distance = [
        (soft_quantize(x, alpha, beta, thresholds, levels, tau) - hard)[far].abs().max() for tau in (5.0, 2000.0)
    ]
    assert distance[1] <= distance[0]
    # At 0.02 from a step and a temperature of 2000 every sigmoid is at its clamp, by less than e^-10 from its end.
    assert distance[1] < math.exp(-MAX_ARGUMENT) * float(alpha) * float(levels[-1] - levels[0])


def test_the_temperature_rises_with_the_epochs_up_to_its_cap():
    assert [temperature(epoch, 10.0) for epoch in (1, 2, 200, 300)] == [10, 20, 2000, 2000]
