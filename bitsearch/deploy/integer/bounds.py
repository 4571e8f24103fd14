"""What integers can become: the range of a value, the widths inside a neuron, and the most that is allowed."""

from dataclasses import dataclass

import torch

from bitsearch.errors import InputError

LARGEST = 1 << 50
"""No integer reaches this. Float64 holds integers below 2^53; three bits more keep its quotients on the right side."""
MOST_ELEMENTS = 1 << 26
"""Most currents a value may have for one input, all its frames together."""


@dataclass(frozen=True)
class Range:
    """What a value can be."""

    shape: tuple[int, ...]
    fraction: int
    low: int
    high: int

    @property
    def magnitude(self) -> int:
        """The largest absolute value."""
        return max(-self.low, self.high)

    @property
    def bits(self) -> int:
        """Of a signed integer that holds it."""
        return signed_bits(self.low, self.high)


@dataclass(frozen=True)
class NeuronWidths:
    """Bounds on the magnitudes inside an operation: the first two of a neuron, the last two of a layer's sums."""

    membrane: int = 0
    """Of what the neuron forms: a layer's 2·u_t + S_t and the edge (q_max + 1)·S_t of its codes; the residual times the
    decay."""
    membrane_fraction: int = 0
    accumulator: int | None = None
    """Of A and of every part of its sum, in whatever order it is added up."""
    product: int | None = None
    """Of A·multiplier, rounding included."""


def signed_bits(low: int, high: int) -> int:
    """Width of the narrowest two's complement integer that holds ``low`` … ``high``."""
    return max((~low if low < 0 else low).bit_length(), (~high if high < 0 else high).bit_length()) + 1


class TooWideError(InputError):
    """Integers of more bits than are allowed."""

    def __init__(self, name: str, bits: int) -> None:
        super().__init__(f"{name}: integers of {bits} bits; at most {LARGEST.bit_length()}")
        self.excess = bits - LARGEST.bit_length()
        """How many bits are too many."""


def check_width(name: str, magnitude: int) -> None:
    """TooWideError if integers of this magnitude are not allowed."""
    if magnitude >= LARGEST:
        raise TooWideError(name, magnitude.bit_length() + 1)


def integer_type(magnitude: int) -> torch.dtype:
    """The tensor type that holds ±``magnitude``: int32 where it can, int64."""
    return torch.int32 if magnitude < 1 << 31 else torch.int64
