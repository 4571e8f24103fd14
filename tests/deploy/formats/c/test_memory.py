"""Buffers that are needed at the same time lie apart, and every integer fits its type."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsearch.deploy.formats.c.memory import Buffer, bytes_of, c_type, place

BUFFERS = st.builds(
    lambda kind, size, first, length: Buffer(kind, size, first, first + length),
    st.sampled_from(["int8_t", "int32_t"]),
    st.integers(1, 50),
    st.integers(0, 9),
    st.integers(0, 4),
)


@given(st.lists(BUFFERS, max_size=12))
def test_what_lives_at_once_lies_apart(buffers):
    sizes = place(buffers)
    for index, one in enumerate(buffers):
        assert one.place + one.size <= sizes[one.type]
        for other in buffers[:index]:
            alive = one.type == other.type and one.first <= other.last and other.first <= one.last
            apart = one.place + one.size <= other.place or other.place + other.size <= one.place
            assert apart or not alive
    for kind, size in sizes.items():
        busiest = max(sum(b.size for b in buffers if b.type == kind and b.first <= t <= b.last) for t in range(14))
        assert busiest <= size <= sum(b.size for b in buffers if b.type == kind)


def test_a_chain_of_operations_takes_two_buffers():
    assert place([Buffer("int8_t", 10, index, index + 1) for index in range(9)]) == {"int8_t": 20}


@pytest.mark.parametrize(
    ("low", "high", "narrowest", "expected"),
    [
        (-128, 127, 8, "int8_t"),
        (0, 128, 8, "int16_t"),
        (-32769, 0, 8, "int32_t"),
        (0, 1, 32, "int32_t"),
        (-(2**31), 2**31 - 1, 32, "int32_t"),
        (0, 2**31, 8, "int64_t"),
    ],
)
def test_the_narrowest_type_that_holds_a_range(low, high, narrowest, expected):
    assert c_type(low, high, narrowest) == expected
    assert -(2 ** (8 * bytes_of(expected) - 1)) <= low <= high < 2 ** (8 * bytes_of(expected) - 1)
