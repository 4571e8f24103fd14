import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples

from bitsearch.deploy.integer.bitpacking import pack_bits, unpack_bits


@examples(100)
@given(bits=st.integers(1, 8), data=st.data())
def test_unpacking_returns_what_was_packed_in_the_fewest_bytes(bits, data):
    values = np.array(data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=40)), dtype=np.int64)
    packed = pack_bits(values, bits)
    assert packed.dtype == np.uint8
    assert packed.size == -(-len(values) * bits // 8)
    assert unpack_bits(packed, bits, len(values)).tolist() == values.tolist()


def test_bits_run_from_least_to_most_significant_without_gaps():
    # 3 bits each: 1 = 100, 2 = 010, 7 = 111 in stream order → bytes 1 | 2 << 3 | 3 << 6 (7's lower two bits), then 1.
    assert pack_bits(np.array([1, 2, 7]), 3).tolist() == [1 | 2 << 3 | 3 << 6, 1]


@pytest.mark.parametrize("values", [[4], [-1]])
def test_values_that_do_not_fit_are_refused(values):
    with pytest.raises(ValueError, match="do not fit 2 bits"):
        pack_bits(np.array(values), 2)


def test_a_wrong_number_of_bytes_is_refused():
    with pytest.raises(ValueError, match="take 2 bytes, not 1"):
        unpack_bits(np.zeros(1, dtype=np.uint8), 3, 4)


def test_unused_bits_that_are_not_zero_are_refused():
    with pytest.raises(ValueError, match="unused bits"):
        unpack_bits(np.array([0b1000], dtype=np.uint8), 3, 1)


@pytest.mark.parametrize("bits", range(1, 9))
def test_arrays_longer_than_a_block_come_back(bits):
    values = np.random.default_rng(0).integers(0, 2**bits, 300_001, dtype=np.uint8)
    packed = pack_bits(values, bits)
    stream = (values[:, None] >> np.arange(bits)) & 1
    assert np.array_equal(packed, np.packbits(stream.astype(np.uint8).reshape(-1), bitorder="little"))
    assert np.array_equal(unpack_bits(packed, bits, len(values)), values)
