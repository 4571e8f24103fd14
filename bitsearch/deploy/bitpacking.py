"""Integers of 1 to 8 bits packed into bytes with no gap between them."""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


def pack_bits(values: npt.NDArray[np.integer], bits: int) -> Bytes:
    """Pack ``values`` (any shape, each in 0 … 2^bits − 1) into ⌈n·bits/8⌉ bytes.

    Value i takes the bits i·bits … (i+1)·bits − 1 of the stream, least significant first; so do the bits of a byte.

    Raises:
        ValueError: a value does not fit.
    """
    flat = values.reshape(-1)
    if flat.size and (flat.min() < 0 or flat.max() >= 2**bits):
        raise ValueError(f"values from {flat.min()} to {flat.max()} do not fit {bits} bits")
    stream = (flat[:, None] >> np.arange(bits)) & 1
    return np.packbits(stream.astype(np.uint8).reshape(-1), bitorder="little")


def unpack_bits(packed: Bytes, bits: int, count: int) -> npt.NDArray[np.int64]:
    """The ``count`` values that :func:`pack_bits` packed, shape ``[count]``; ValueError if there are too few bytes."""
    if packed.size != -(-count * bits // 8):
        raise ValueError(f"{count} values of {bits} bits take {-(-count * bits // 8)} bytes, not {packed.size}")
    stream = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits).astype(np.int64)
    return (stream << np.arange(bits)).sum(axis=1)
