"""Types of the program's fields: every number in a packed file has a range of its own, checked when it is read."""

from typing import Annotated

from pydantic import Field

DECAY_FRACTION = 16
"""A membrane decay is an integer in the unit 2^−16."""

Decay = Annotated[int, Field(ge=0, le=1 << DECAY_FRACTION)]
Fraction = Annotated[int, Field(ge=-64, le=64)]
Size = Annotated[int, Field(ge=1, le=1 << 24)]
Pair = Annotated[tuple[Annotated[int, Field(ge=1, le=1 << 12)], ...], Field(min_length=1, max_length=2)]
Padding = Annotated[tuple[Annotated[int, Field(ge=0, le=1 << 12)], ...], Field(min_length=1, max_length=2)]
Shape = Annotated[tuple[Size, ...], Field(min_length=1, max_length=4)]
Value = Annotated[int, Field(ge=0)]
