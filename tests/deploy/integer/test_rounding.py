"""Quotients on the edge of whole numbers."""

import torch
from hypothesis import example, given
from hypothesis import strategies as st
from profiles import examples

from bitsearch.deploy.integer.bounds import LARGEST
from bitsearch.deploy.integer.rounding import floor_quotient, quotient


@examples(500)
@given(divisor=st.integers(1, 2**31 - 1), whole=st.integers(0, 511), offset=st.integers(-2, 2))
@example(divisor=1, whole=511, offset=0)
@example(divisor=2**31 - 1, whole=511, offset=-1)
def test_a_product_and_a_shift_divide_exactly_next_to_every_multiple(divisor, whole, offset):
    number = max(whole * divisor + offset, 0)
    limit = 512 * divisor + 3
    assert floor_quotient(torch.tensor([number]), divisor, limit).item() == number // divisor


def test_a_product_and_a_shift_divide_exactly_for_all_small_numbers():
    for divisor in range(1, 70):
        numbers = torch.arange(40 * divisor)
        assert torch.equal(floor_quotient(numbers, divisor, 40 * divisor), numbers // divisor)


@examples(500)
@given(denominator=st.integers(1, 2**49), multiple=st.integers(-(2**50), 2**50), offset=st.integers(-1, 1))
def test_rounded_quotients_stay_on_their_side_of_whole_numbers(denominator, multiple, offset):
    # The nearest multiple of the denominator within the allowed range, and its two neighbours.
    numerator = max(min(multiple, LARGEST), -LARGEST) // denominator * denominator + offset
    numerator = max(min(numerator, LARGEST - 1), 1 - LARGEST)
    result = quotient(torch.tensor([float(numerator)], dtype=torch.float64), float(denominator))
    assert result.item() == numerator // denominator
