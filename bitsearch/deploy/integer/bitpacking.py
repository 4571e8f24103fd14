"""Integers of 1 to 8 bits packed into bytes with no gap between them."""

from math import gcd

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

_BLOCK = 1 << 18
"""Values worked on at once: a multiple of 8, and little enough to stay in a core's cache."""


def pack_bits(values: npt.NDArray[np.integer], bits: int) -> Bytes:
    """Pack ``values`` (any shape, each in 0 … 2^bits − 1) into ⌈n·bits/8⌉ bytes; unused bits of the last one are 0.

    Value i takes the bits i·bits … (i+1)·bits − 1 of the stream, least significant first; so do the bits of a byte.

    Raises:
        ValueError: a value does not fit.
    """
    integers = values.reshape(-1)
    if integers.size and (integers.min() < 0 or integers.max() >= 2**bits):
        raise ValueError(f"values from {integers.min()} to {integers.max()} do not fit {bits} bits")
    flat: Bytes = integers.astype(np.uint8, copy=False)
    if bits == 8:
        return flat.copy()
    if bits == 1:
        return np.packbits(flat, bitorder="little")
    group, size = _group(bits)
    padded = np.zeros(-(-flat.size // group) * group, dtype=np.uint8)
    padded[: flat.size] = flat
    packed = np.empty((padded.size // group, size), dtype=np.uint8)
    for start in range(0, padded.size, _BLOCK):
        words = padded[start : start + _BLOCK].view(f"<u{group}").copy()
        shifted = np.empty_like(words)
        for shift, fixed_mask, shifted_mask in _stages(bits, group):
            # Neighbours are joined, then pairs, then fours.
            np.right_shift(words, shift, out=shifted)
            if bits > 4:
                words &= fixed_mask
                shifted &= shifted_mask
                words |= shifted
            else:
                # At its old place no field reaches into the others' new ones, so that one mask does.
                words |= shifted
                words &= fixed_mask | shifted_mask
        packed[start // group : start // group + words.size] = words.view(np.uint8).reshape(-1, group)[:, :size]
    return packed.reshape(-1)[: -(-flat.size * bits // 8)]


def unpack_bits(packed: Bytes, bits: int, count: int) -> Bytes:
    """The ``count`` values that :func:`pack_bits` packed, uint8 ``[count]``.

    Raises:
        ValueError: another number of bytes than they take, or unused bits that are not 0.
    """
    if packed.size != -(-count * bits // 8):
        raise ValueError(f"{count} values of {bits} bits take {-(-count * bits // 8)} bytes, not {packed.size}")
    if count * bits % 8 and packed[-1] >> (count * bits % 8):
        raise ValueError("the unused bits of the last byte are not 0")
    if bits == 8:
        return packed.copy()
    if bits == 1:
        return np.unpackbits(packed, count=count, bitorder="little")
    group, size = _group(bits)
    padded = np.zeros((-(-count // group), size), dtype=np.uint8)
    padded.reshape(-1)[: packed.size] = packed
    values = np.empty(len(padded) * group, dtype=np.uint8)
    for start in range(0, len(padded), _BLOCK // group):
        block = padded[start : start + _BLOCK // group]
        bytes_apart = np.zeros((len(block), group), dtype=np.uint8)
        bytes_apart[:, :size] = block
        words = bytes_apart.reshape(-1).view(f"<u{group}")
        shifted = np.empty_like(words)
        for shift, fixed_mask, shifted_mask in reversed(_stages(bits, group)):
            if bits > 4:
                np.bitwise_and(words, shifted_mask, out=shifted)
                words &= fixed_mask
                shifted <<= shift
                words |= shifted
            else:
                np.left_shift(words, shift, out=shifted)
                words |= shifted
                words &= fixed_mask | (shifted_mask << shift)
        values[start * group : (start + len(block)) * group] = words.view(np.uint8)
    return values[:count]


def _group(bits: int) -> tuple[int, int]:
    """The fewest values that fill whole bytes, and how many bytes: eight 3-bit values take three."""
    return 8 // gcd(8, bits), bits // gcd(8, bits)


def _stages(bits: int, group: int) -> list[tuple[np.unsignedinteger, np.unsignedinteger, np.unsignedinteger]]:
    """(shift, where fields stay, where those that move arrive), from one value a byte to all of them side by side."""
    word = np.dtype(f"<u{group}").type
    stages = []
    joined = 1
    while joined < group:
        field, slot = (1 << joined * bits) - 1, 16 * joined
        fixed_mask = sum(field << place for place in range(0, 8 * group, slot))
        stages.append((word(joined * (8 - bits)), word(fixed_mask), word(fixed_mask << joined * bits)))
        joined *= 2
    return stages
