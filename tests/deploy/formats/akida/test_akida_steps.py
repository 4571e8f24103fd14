"""The nearest thresholds that Akida has, against its documented formula and a search of all there are."""

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples

from bitsearch.deploy.formats.akida.steps import Activation, nearest_activation
from bitsearch.deploy.formats.akida.windows import Window, common_modes


def documented(total, start, step, bits):
    """⌈(p − θ) / (step·2^(4 − b))⌉, cut."""
    return min(max(ceil((total - start) / (step * 2 ** (4 - bits))), 0), 2**bits - 1)


@examples(20)
@given(st.sampled_from([1, 2, 4]), st.integers(-40, 40), st.integers(1, 100), st.integers(-200, 200))
def test_levels_are_where_the_documented_formula_rises(bits, start, steps, total):
    activation = Activation(bits, np.array([start]), np.array([steps]))
    assert float(activation.act_step[0]) == steps / 16
    assert documented(total, start, Fraction(steps, 16), bits) == int((total >= activation.levels[:, 0]).sum())


@examples(40)
@given(st.sampled_from([1, 2, 4]), st.integers(-40, 40), st.integers(1, 100), st.integers(20, 300))
def test_thresholds_that_akida_has_are_found(bits, start, steps, bound):
    levels = np.clip(Activation(bits, np.array([start]), np.array([steps])).levels, -bound, bound + 1)
    nearest = nearest_activation(bits, levels, bound)
    assert np.array_equal(np.clip(nearest.levels, -bound, bound + 1), levels)


BOUND = 30
START, STEPS, K = np.ogrid[-14:14, 1:34, 0:3]
EVERY = np.clip(START + 1 + K * STEPS // 4, -BOUND, BOUND + 1)
"""The thresholds of every activation of two bits with these starts and steps."""


@examples(40)
@given(st.fractions(-9, 9, max_denominator=64), st.fractions(Fraction(1, 9), 6, max_denominator=64))
def test_no_other_thresholds_are_nearer(first, spacing):
    exact = np.clip([ceil(first + k * spacing) for k in range(3)], -BOUND, BOUND + 1)
    levels = np.clip(nearest_activation(2, exact[:, None], BOUND).levels[:, 0], -BOUND, BOUND + 1)
    distance = np.abs(levels - exact).sum()
    assert distance <= np.abs(EVERY - exact).sum(-1).min()
    # Half a unit of the phase, and what steps in quarters drift by.
    assert distance <= 2


def test_a_code_that_never_changes_is_kept():
    for reached in range(16):
        exact = np.array([[-50]] * reached + [[51]] * (15 - reached))
        levels = nearest_activation(4, exact, 50).levels
        assert np.array_equal(np.clip(levels, -50, 51), exact)


def tensorflow_front(length, kernel, stride):
    """(windows, padding in front) of TensorFlow's ``SAME``."""
    count = ceil(length / stride)
    return count, max((count - 1) * stride + kernel - length, 0) // 2


@pytest.mark.parametrize("length", range(5, 12))
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2), (3, 3), (2, 2)])
def test_windows_are_where_akida_puts_them(length, kernel, stride):
    count, front = tensorflow_front(length, kernel, stride)
    starts = [position * stride - front for position in range(count)]
    # Of the image turned by 180°, in its own coordinates.
    turned = sorted(length - start - kernel for start in starts)
    for padding in range(kernel):
        windows = (length + 2 * padding - kernel) // stride + 1
        firsts = [position * stride - padding for position in range(windows)]
        window = Window(length, windows, kernel, stride, padding)
        assert window.fits("same", turned=False) == (firsts == starts)
        assert window.fits("same", turned=True) == (firsts == turned)
        assert window.fits("valid", turned=False) == (padding == 0)
        assert window.fits("valid", turned=True) == (padding == 0 and firsts[-1] + kernel == length)


def test_one_choice_has_to_fit_all_layers():
    even, odd, plain = Window(8, 4, 3, 2, 1), Window(8, 4, 3, 2, 0), Window(8, 6, 3, 1, 0)
    assert common_modes([[even]]) == (True, ["same"])
    assert common_modes([[plain, plain], [even]]) == (True, ["valid", "same"])
    assert common_modes([[plain], [plain]]) == 1
    assert common_modes([[even], [odd]]) == 1
    assert common_modes([[plain], [], [Window(6, 6, 3, 1, 1)]]) == (False, ["valid", "same", "same"])
