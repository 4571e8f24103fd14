import itertools

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from tolerances import rounding

from bitsearch.errors import InputError
from bitsearch.quant.renewal import _count_codes, _merge, _running_sums, renew_step
from bitsearch.quant.uniform import SMALLEST_STEP

QUICK = examples(30)
ELEMENTS = 30_000
DISTRIBUTIONS = {
    "normal": lambda generator, size: generator.normal(size=size),
    "laplace": lambda generator, size: generator.laplace(size=size),
    "half-normal": lambda generator, size: np.abs(generator.normal(size=size)),
    "sparse": lambda generator, size: generator.normal(size=size) * (generator.random(size) < 0.1),
    "heavy tails": lambda generator, size: generator.standard_t(3, size=size),
}
seeds = st.integers(0, 2**32 - 1)


def draw(name, seed, size, signed):
    values = DISTRIBUTIONS[name](np.random.default_rng(seed), size).astype(np.float32).astype(np.float64)
    return values if signed else np.maximum(values, 0)


def renewed(x, bits, signed):
    return renew_step(torch.tensor(x, dtype=torch.float32), torch.tensor(float(bits)), signed=signed).item()


BINNED = 1.001
"""What a step of a large tensor may cost, relative to the best of a grid search: its candidates hold the grid's, but
are compared by the means of a histogram's bins. What that may cost is the method's claim, no matter of rounding."""


def no_worse(found, least, x, off=0.0):
    """Whether a loss is no larger than another but for the roundings of float32, where both are of a small tensor.

    The search then compares the losses of the elements themselves. An error |Q(x) − x| is off by some roundings of x,
    and so is the root of their mean power; which is off by those of its sum as well.
    """
    sums = 1 + 2 * rounding(len(x) + 256)
    return found ** (1 / 2.4) <= least ** (1 / 2.4) * sums + 2 * rounding(16) * np.abs(x).max() + off


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_never_worse_than_a_grid_search_over_the_full_tensor(name, bits, signed):
    x = draw(name, bits, ELEMENTS, signed)
    loss = reference.renewal_loss(x, renewed(x, bits, signed), bits, signed)
    assert loss <= BINNED * reference.best_of_grid(x, bits, signed)


def test_small_tensors_are_never_worse_than_a_grid_search_either():
    worse = []
    for size, bits, name, signed, seed in itertools.product(
        (288, 1000), range(1, 9), DISTRIBUTIONS, (True, False), range(4)
    ):
        x = draw(name, 100 * seed + bits, size, signed)
        loss = reference.renewal_loss(x, renewed(x, bits, signed), bits, signed)
        if not no_worse(loss, reference.best_of_grid(x, bits, signed), x):
            worse.append((size, bits, name, signed, seed))
    assert worse == []


@QUICK
@given(st.sampled_from(sorted(DISTRIBUTIONS)), st.integers(1, 8), st.integers(1, 8), st.booleans(), seeds)
def test_renewal_after_a_bit_change_lowers_the_loss(name, old_bits, new_bits, signed, seed):
    x = draw(name, seed, 2000, signed)
    old = renewed(x, old_bits, signed)
    new = renewed(x, new_bits, signed)
    before = reference.renewal_loss(x, old, new_bits, signed)
    after = reference.renewal_loss(x, new, new_bits, signed)
    if new_bits == old_bits:
        assert after == before
    elif signed and {old_bits, new_bits} == {1, 2}:
        # The levels are at ±s either way, and candidates for s at every fiftieth of the largest value.
        assert no_worse(after, before, x, np.abs(x).max() / 100)
    else:
        assert after < before


@QUICK
@given(st.integers(1, 8), st.booleans(), st.floats(1e-4, 1e4), seeds)
def test_the_step_scales_with_the_tensor(bits, signed, factor, seed):
    x = draw("normal", seed, 2000, signed)
    step, scaled = renewed(x, bits, signed), renewed(x * factor, bits, signed)
    loss = reference.renewal_loss(x, step, bits, signed)
    assert no_worse(reference.renewal_loss(x, scaled / factor, bits, signed), loss, x)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_zeros_get_a_positive_finite_step(bits, signed):
    step = renewed(np.zeros(100), bits, signed)
    assert np.isfinite(step)
    assert step == pytest.approx(SMALLEST_STEP)


def test_a_channel_of_zeros_gets_a_positive_finite_step():
    x = torch.cat([torch.zeros(1, 30), torch.randn(1, 30, generator=torch.Generator().manual_seed(0))])
    steps = renew_step(x, torch.tensor(3.0), signed=True, per_channel=True)
    assert steps[0].item() == pytest.approx(SMALLEST_STEP)
    assert steps[1].item() == renew_step(x[1], torch.tensor(3.0), signed=True).item()


@QUICK
@given(st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple), st.integers(1, 8), st.booleans(), seeds)
def test_per_channel_equals_one_call_a_channel(shape, bits, signed, seed):
    generator = np.random.default_rng(seed)
    x = torch.tensor(generator.normal(size=shape) * generator.uniform(0.1, 10), dtype=torch.float32)
    width = torch.tensor(float(bits))
    steps = renew_step(x, width, signed=signed, per_channel=True)
    assert steps.shape == (shape[0], *[1] * (len(shape) - 1))
    single = torch.stack([renew_step(channel, width, signed=signed) for channel in x])
    assert torch.equal(steps.flatten(), single)


@QUICK
@given(st.integers(1, 8), seeds)
def test_negative_values_do_not_move_an_unsigned_step(bits, seed):
    x = draw("normal", seed, 500, True)
    assert renewed(x, bits, False) == renewed(np.maximum(x, 0), bits, False)


@QUICK
@given(st.integers(2, 8), st.booleans(), seeds)
def test_values_on_a_grid_are_kept(bits, signed, seed):
    q_min, q_max = reference.level_range(bits, signed)
    codes = np.random.default_rng(seed).integers(q_min, q_max + 1, size=500)
    codes[0] = q_max
    x = codes * 0.125
    step = renewed(x, bits, signed)
    assert reference.renewal_loss(x, step, bits, signed) <= reference.renewal_loss(x, 0.126, bits, signed)


def test_one_outlier_does_not_coarsen_the_rest():
    x = draw("normal", 5, ELEMENTS, True)
    x[0] = 50.0
    loss = reference.renewal_loss(x, renewed(x, 4, True), 4, True)
    assert loss <= BINNED * reference.best_of_grid(x, 4, True)


def test_one_element():
    for signed in (True, False):
        step = renewed(np.array([0.7]), 1, signed)
        assert step == pytest.approx(0.7)


def test_the_tensor_is_left_alone():
    x = torch.randn(100, generator=torch.Generator().manual_seed(1), requires_grad=True)
    before = x.detach().clone()
    step = renew_step(x, torch.tensor(3.0), signed=True)
    assert torch.equal(x.detach(), before)
    assert not step.requires_grad


@pytest.mark.parametrize("size", [10, 5000])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("wrong", [[np.nan], [np.inf], [-np.inf], [np.inf, -np.inf], [np.nan, np.inf]])
def test_what_is_not_finite_is_refused_in_one_line(wrong, signed, per_channel, size):
    x = torch.randn(4, size, generator=torch.Generator().manual_seed(0))
    x[2, 3 : 3 + len(wrong)] = torch.tensor(wrong)
    before = x.clone()
    with pytest.raises(InputError, match="holds NaN or infinity") as caught:
        renew_step(x, torch.tensor(4.0), signed=signed, per_channel=per_channel)
    assert "\n" not in str(caught.value)
    torch.testing.assert_close(x, before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    ("shape", "per_channel", "expected"),
    [((0,), False, ()), ((0, 3), False, ()), ((3, 0), True, (3, 1)), ((0, 3, 2), True, (0, 1, 1))],
)
def test_an_empty_tensor_gets_the_smallest_step(shape, per_channel, expected, signed):
    steps = renew_step(torch.zeros(shape), torch.tensor(4.0), signed=signed, per_channel=per_channel)
    assert steps.shape == expected
    assert (steps == SMALLEST_STEP).all()


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("size", [20, 5000])
def test_subnormal_and_very_small_values_get_a_positive_finite_step(size, bits, signed):
    for scale in (1e-45, 1e-42, 1e-38, 1e-12):
        step = renewed(draw("half-normal", 0, size, True) * scale, bits, signed)
        assert np.isfinite(step)
        assert step >= np.float32(SMALLEST_STEP)


CANDIDATES = 0.02
"""Relative: three times as far as two of the last candidates are from each other, by 2/15 of a twentieth."""


@pytest.mark.parametrize("signed", [True, False])
def test_subnormal_values_do_not_disturb_the_rest(signed):
    x = draw("normal", 0, 5000, signed)
    small = np.concatenate([x, np.full(10, 1e-42)])
    assert renewed(small, 4, signed) == pytest.approx(renewed(x, 4, signed), rel=CANDIDATES)


def test_large_values_are_renewed():
    x = draw("normal", 0, 5000, True)
    step = renewed(x * 1e12, 4, True)
    assert step / 1e12 == pytest.approx(renewed(x, 4, True), rel=CANDIDATES)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_equal_values_get_a_step_that_hits_them(bits, signed):
    x = np.full(3000, 0.7)
    step = renewed(x, bits, signed)
    assert np.abs(reference.quantize(x, step, bits, signed) - x).max() <= rounding(16) * 0.7


@pytest.mark.parametrize("bits", [1, 4])
def test_only_negative_values_get_the_smallest_unsigned_step(bits):
    assert renewed(-draw("half-normal", 0, 100, True) - 0.1, bits, False) == pytest.approx(SMALLEST_STEP)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_largest_of_half_precision_are_finite(dtype):
    x = torch.full((100,), 6e4, dtype=dtype)
    assert renew_step(x, torch.tensor(4.0), signed=True).item() * 7 == pytest.approx(6e4, rel=CANDIDATES)


def spikes_among_zeros(generator):
    x = np.zeros(ELEMENTS)
    x[1234] = 0.37
    return x


def huge_range(generator):
    return np.exp(generator.uniform(np.log(1e-30), np.log(1e20), ELEMENTS)) * generator.choice([-1, 1], ELEMENTS)


def subnormal_and_normal(generator):
    x = generator.normal(size=ELEMENTS)
    x[::3] = 1e-42
    return x


HARD = {
    "one value among zeros": spikes_among_zeros,
    "constant": lambda generator: np.full(ELEMENTS, 0.7),
    "two values of both signs": lambda generator: generator.choice([-1.3, 0.4], ELEMENTS),
    "after a ReLU": lambda generator: np.maximum(generator.normal(size=ELEMENTS), 0),
    "outliers of 1,000": lambda generator: np.concatenate([generator.normal(size=ELEMENTS), np.full(3, 1000.0)]),
    "50 decades": huge_range,
    "a third subnormal": subnormal_and_normal,
    "eight levels": lambda generator: generator.integers(0, 8, ELEMENTS) * 0.3,
    "lognormal": lambda generator: generator.lognormal(0, 3, ELEMENTS),
}


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("name", HARD)
def test_the_histogram_keeps_counts_and_means(name, signed):
    x = HARD[name](np.random.default_rng(0)).astype(np.float32)
    kept = np.abs(x) if signed else np.maximum(x, 0)
    top = float(kept.max())
    sums = _running_sums(_count_codes(torch.tensor(x), top, signed))
    for resolution in (128, 256, 512, 1024):
        centres, counts = _merge(sums, resolution)
        # Two octaves of as many, two of half as many and so on, each of the twenty at least one, and zero's.
        assert len(centres) == len(counts) <= 4 * resolution + 20 + 1
        assert counts.sum() == len(x)
        assert (centres.diff()[(counts[1:] > 0) & (counts[:-1] > 0)] > 0).all()
        # What is below 2^-20 of the largest value is the first bin, and counts as zero.
        # Only what float16 rounds to that limit may be on either side of it.
        limits = 2.0**-20 * top * np.array([1 + 2.0**-10, 1 - 2.0**-10])
        surely, maybe = (int((kept > limit).sum()) for limit in limits)
        assert surely <= int(counts[1:].sum()) <= maybe
        mean = float((centres.double() * counts).sum()) * top / len(x)
        # Every value is rounded to the eleven digits of float16, or to zero.
        assert mean == pytest.approx(kept.astype(np.float64).mean(), rel=2**-11, abs=2**-20 * top)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("name", HARD)
def test_hard_tensors_are_never_worse_than_a_grid_search(name, bits, signed):
    x = HARD[name](np.random.default_rng(1)).astype(np.float32).astype(np.float64)
    x = x if signed else np.maximum(x, 0)
    loss = reference.renewal_loss(x, renewed(x, bits, signed), bits, signed)
    # Where the grid hits every value, a step in float32 does too, but for its precision.
    precision = (rounding(16) * np.abs(x).max()) ** 2.4
    assert loss <= BINNED * reference.best_of_grid(x, bits, signed) + precision


def test_the_order_of_the_elements_does_not_matter():
    x = draw("laplace", 3, 10**6 // 3, True)
    assert renewed(x, 5, True) == renewed(np.random.default_rng(0).permutation(x), 5, True)


def best_power(x, bits, signed):
    """The least loss over all powers of two that float32 has room for around the tensor's values."""
    return min(reference.renewal_loss(x, 2.0**exponent, bits, signed) for exponent in range(-26, 20))


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_power_of_two_is_the_best_of_all_powers(name, bits, signed):
    for size, allowed in ((500, no_worse), (ELEMENTS, lambda found, least, x: found <= BINNED * least)):
        x = draw(name, bits, size, signed)
        width = torch.tensor(float(bits))
        step = renew_step(torch.tensor(x, dtype=torch.float32), width, signed=signed, power_of_two=True).item()
        assert np.frexp(step)[0] == 0.5
        assert allowed(reference.renewal_loss(x, step, bits, signed), best_power(x, bits, signed), x)


@pytest.mark.parametrize("signed", [True, False])
def test_powers_of_two_by_channel_of_zeros_too(signed):
    x = torch.cat([torch.zeros(1, 30), torch.rand(1, 30, generator=torch.Generator().manual_seed(0))])
    width = torch.tensor(3.0)
    steps = renew_step(x, width, signed=signed, per_channel=True, power_of_two=True)
    assert steps[0].item() == 2.0**-26
    assert steps[1].item() == renew_step(x[1], width, signed=signed, power_of_two=True).item()
