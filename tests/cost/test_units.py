from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples

from bitsearch.cost.units import UNITS, factor, read_amount


@pytest.mark.parametrize(
    ("text", "counted_in", "amount"),
    [
        ("64KiB", "bytes", 65536),
        ("64 kB", "bytes", 64000),
        ("1.5MiB", "bytes", 1572864),
        (".5GB", "bytes", 500_000_000),
        (" 3 B ", "bytes", 3),
        ("1e3B", "bytes", 1000),
        ("0.3B", "bytes", 0.3),
        ("2.5nJ", "pJ", 2500),
        ("5µJ", "pJ", 5_000_000),
        ("5μJ", "pJ", 5_000_000),
        ("0.1pJ", "pJ", 0.1),
        ("1e999J", "pJ", 10**1011),
        ("10ms", "s", 0.01),
        ("3s", "s", 3),
        ("0.2GHz", "Hz", 200_000_000),
    ],
)
def test_an_amount_is_a_number_times_its_unit(text, counted_in, amount):
    value = read_amount(text, counted_in)
    assert value == amount
    assert type(value) is type(amount)


@pytest.mark.parametrize("text", ["", "64", "KiB", "64KIB", "-1B", "+1B", "1 2B", "1B B", "inf B", "nan B", "1e9999B"])
def test_what_is_no_amount_is_refused_with_the_units(text):
    with pytest.raises(ValueError, match="a string of a number and one of the units B, kB, MB, GB, TB, KiB, MiB"):
        read_amount(text, "bytes")


@pytest.mark.parametrize("value", [None, 3, 2.5, True, [1]])
def test_what_is_no_string_stays_as_it_is(value):
    assert read_amount(value, "bytes") is value


@examples(40)
@given(data=st.data(), number=st.integers(0, 10**6))
def test_amounts_are_exact(data, number):
    counted_in = data.draw(st.sampled_from(sorted(UNITS)))
    unit = data.draw(st.sampled_from(sorted(UNITS[counted_in])))
    exact = Fraction(number) * factor(unit, counted_in)
    assert read_amount(f"{number}{unit}", counted_in) == (int(exact) if exact.denominator == 1 else float(exact))


def test_a_unit_of_something_else_has_no_factor():
    assert factor("KiB", "pJ") is None
    assert factor("KiB", "cores") is None
