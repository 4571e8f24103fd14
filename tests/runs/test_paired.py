import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsearch.runs.paired import paired_difference, paired_difference_over_seeds, standard_error


def counts(both, first_only, second_only, neither):
    """Two vectors with so many samples that both, one or neither got right."""
    pairs = [(True, True)] * both + [(True, False)] * first_only + [(False, True)] * second_only
    first, second = np.array(pairs + [(False, False)] * neither).T
    return first, second


def exact_p_value(better, changed):
    """McNemar's, two-sided: twice the smaller tail of a fair coin."""
    tail = sum(math.comb(changed, k) for k in range(min(better, changed - better) + 1)) / 2**changed
    return min(1.0, 2 * tail)


def test_one_image_of_360_is_no_difference():
    difference = paired_difference(*counts(350, 4, 3, 3))
    assert difference.samples == 360
    assert difference.difference == pytest.approx(1 / 360)
    assert difference.low < 0 < difference.high
    assert not difference.is_shown


def test_nothing_changed():
    difference = paired_difference(*counts(350, 0, 0, 10))
    assert (difference.difference, difference.low, difference.high, difference.is_shown) == (0, 0, 0, False)


def test_the_interval_of_a_handful_that_one_side_won():
    # Of 8 samples all for the first: the share is at least 0.025 ** (1 / 8), by Clopper and Pearson.
    difference = paired_difference(*counts(90, 8, 0, 2))
    assert difference.low == pytest.approx((2 * 0.025 ** (1 / 8) - 1) * 0.08)
    assert difference.high == pytest.approx(0.08)
    assert difference.is_shown


@given(*[st.integers(0, 60)] * 4)
def test_it_is_shown_where_mcnemars_exact_test_rejects(both, first_only, second_only, neither):
    if both + first_only + second_only + neither == 0:
        return
    difference = paired_difference(*counts(both, first_only, second_only, neither))
    changed = first_only + second_only
    assert difference.is_shown == (changed > 0 and exact_p_value(first_only, changed) < 0.05)
    assert difference.low <= difference.difference <= difference.high
    swapped = paired_difference(*reversed(counts(both, first_only, second_only, neither)))
    assert (swapped.low, swapped.high) == pytest.approx((-difference.high, -difference.low))


def test_the_standard_error_is_that_of_the_mean_of_the_differences():
    # 6 of 100 differences are 1, 2 are -1: the mean is 0.04, their sum of squares 8 - 100 · 0.04².
    error = standard_error(*counts(80, 6, 2, 12))
    assert error == pytest.approx(math.sqrt((8 - 100 * 0.04**2) / 99 / 100), rel=1e-12)
    assert standard_error(*counts(80, 0, 0, 20)) == 0


def test_seeds_that_agree_leave_the_chance_of_the_samples():
    first, second = counts(800, 60, 20, 120)
    difference = paired_difference_over_seeds(np.stack([first] * 3), np.stack([second] * 3))
    error = standard_error(first, second)
    assert difference.difference == pytest.approx(0.04)
    assert (difference.samples, difference.seeds) == (1000, 3)
    # Quantiles of 2,000 draws from a nearly normal distribution have an error of about 0.06 of its deviation.
    assert difference.low == pytest.approx(0.04 - 1.96 * error, abs=0.25 * error)
    assert difference.high == pytest.approx(0.04 + 1.96 * error, abs=0.25 * error)


def test_seeds_that_disagree_widen_the_interval():
    better, worse = counts(800, 60, 20, 120)
    agreeing = paired_difference_over_seeds(np.stack([better] * 3), np.stack([worse] * 3))
    mixed = paired_difference_over_seeds(np.stack([better, worse, better]), np.stack([worse, better, worse]))
    assert mixed.difference == pytest.approx(0.04 / 3)
    assert mixed.high - mixed.low > agreeing.high - agreeing.low


def test_one_seed_is_compared_exactly():
    first, second = counts(90, 8, 0, 2)
    assert paired_difference_over_seeds(first[None], second[None]) == paired_difference(first, second)
