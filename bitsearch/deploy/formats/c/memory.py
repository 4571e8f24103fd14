"""Static memory of a generated network: an array an integer type, in which buffers that live at once lie apart."""

from collections.abc import Iterable
from dataclasses import dataclass

from bitsearch.deploy.integer.bounds import signed_bits


def c_type(low: int, high: int, narrowest: int = 8) -> str:
    """The narrowest integer type of C99, of ``narrowest`` bits or more, that holds ``low`` … ``high``."""
    bits = next(bits for bits in (8, 16, 32, 64) if bits >= max(signed_bits(low, high), narrowest))
    return f"int{bits}_t"


def bytes_of(c_type: str) -> int:
    """Of one integer of a type such as ``int16_t``."""
    return int(c_type.removeprefix("int").removesuffix("_t")) // 8


@dataclass
class Buffer:
    """Integers of one type that are needed from one operation to another."""

    type: str
    size: int
    first: int
    """Index of the operation that writes it."""
    last: int
    """Index of the last one that reads it."""
    place: int = 0
    """Of its first integer in the array of its type."""

    def __str__(self) -> str:
        return f"(memory_{self.type} + {self.place})"


def place(buffers: Iterable[Buffer]) -> dict[str, int]:
    """Give every buffer a place; returns the sizes of the arrays, by type.

    The largest first, each at the lowest place where it lies apart from those that live with it: greedy by size
    (Pisarchyk and Lee 2020, arXiv 2001.03288).
    """
    placed: list[Buffer] = []
    sizes: dict[str, int] = {}
    for buffer in sorted(buffers, key=lambda buffer: (-buffer.size, buffer.first)):
        beside = sorted(
            (other.place, other.place + other.size)
            for other in placed
            if other.type == buffer.type and other.first <= buffer.last and buffer.first <= other.last
        )
        buffer.place = 0
        for start, end in beside:
            if buffer.place + buffer.size <= start:
                break
            buffer.place = max(buffer.place, end)
        placed.append(buffer)
        sizes[buffer.type] = max(sizes.get(buffer.type, 0), buffer.place + buffer.size)
    return dict(sorted(sizes.items()))
