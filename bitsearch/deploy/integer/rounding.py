"""⌊v + ½⌋, ties upward, of integers and of float64: the one rounding of the deployed arithmetic."""

from typing import TypeVar

import torch
from torch import Tensor

from bitsearch.deploy.integer.fields import DECAY_FRACTION

Integers = TypeVar("Integers", int, Tensor)


def decayed(residual: Integers, decay: int) -> Integers:
    """⌊(residual·decay + 2^15) / 2^16⌋: what a decay leaves of a membrane."""
    return (residual * decay + (1 << DECAY_FRACTION - 1)) >> DECAY_FRACTION


def rescaled(x: Integers, multiplier: int, shift: int) -> Integers:
    """⌊(x·multiplier + ⌊2^shift / 2⌋) / 2^shift⌋."""
    return (x * multiplier + half(shift)) >> shift


def odd_part(number: int) -> tuple[int, int]:
    """(odd, k) of a positive whole number odd·2^k: a quotient by it is one by ``odd`` of what is shifted by k."""
    places = (number & -number).bit_length() - 1
    return number >> places, places


def half(shift: int) -> int:
    """⌊2^shift / 2⌋, which is added before a shift that rounds."""
    return (1 << shift) >> 1


def mean(total: Tensor, count: int, finer: int) -> Tensor:
    """⌊(2·total·2^finer + count) / (2·count)⌋ of int64 sums: their mean, ``finer`` bits finer."""
    if count == 1 << finer:
        return total
    return torch.div(total * (2 << finer) + count, 2 * count, rounding_mode="floor")


def floor_quotient(numbers: Tensor, divisor: int, limit: int) -> Tensor:
    """⌊n / divisor⌋ of int64 numbers 0 ≤ n < ``limit``, by a product and a shift where these fit 63 bits.

    With 2^k ≥ limit·divisor and m = ⌈2^k / divisor⌉, n·m / 2^k exceeds n / divisor by less than 1 / divisor, which
    reaches no further whole number (Granlund and Montgomery 1994).
    """
    places = (limit * divisor - 1).bit_length()
    factor = -(-(1 << places) // divisor)
    if limit * factor >= 1 << 63:
        return torch.div(numbers, divisor, rounding_mode="floor")
    return (numbers * factor).__irshift__(places)


def rounded(x: Tensor, fraction: int) -> Tensor:
    """Float64 to the nearest multiple of 2^−fraction, ties upward."""
    return torch.floor(x * 2.0**fraction + 0.5) * 2.0**-fraction


def quotient(numerator: Tensor, denominator: Tensor | float) -> Tensor:
    """⌊numerator / denominator⌋ of float64 whole multiples a and b > 0 of one power of two, |a| + b < 2^53: exact.

    Where a/b is no whole number it is at least 1/b below the next one, n, and 1/b > n·2^−53; so the rounded quotient,
    which is no further than n·2^−54 from it on that side, does not reach n. Whole quotients are representable.
    """
    return torch.floor(numerator / denominator)
