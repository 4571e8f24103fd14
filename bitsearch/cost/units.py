"""Units of bytes, energies, times and frequencies, and amounts written with them, such as ``64KiB``."""

import math
import re
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from bitsearch.validation import Cost, Count, Positive

UNITS: dict[str, dict[str, Fraction]] = {
    "bytes": {"B": Fraction(1), **{f"{prefix}B": Fraction(10) ** (3 * power) for power, prefix in enumerate("kMGT", 1)}}
    | {f"{prefix}iB": Fraction(2) ** (10 * power) for power, prefix in enumerate("KMGT", 1)},
    "pJ": {f"{prefix}J": Fraction(10) ** (3 * power) for power, prefix in enumerate(("p", "n", "u", "m", ""))},
    "s": {f"{prefix}s": Fraction(10) ** (3 * power - 12) for power, prefix in enumerate(("p", "n", "u", "m", ""))},
    "Hz": {f"{prefix}Hz": Fraction(10) ** (3 * power) for power, prefix in enumerate(("", "k", "M", "G"))},
}
"""Factors of the units that an amount may have, by the unit that it is counted in. ``µ`` is ``u``."""
MICRO = {ord("\N{MICRO SIGN}"): "u", ord("\N{GREEK SMALL LETTER MU}"): "u"}
"""Both of Unicode's letters for micro, as :func:`str.translate` takes them."""

_AMOUNT = re.compile(r"\s*(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\s*([^\W\d]\w*)\s*")


def factor(unit: str, counted_in: str) -> Fraction | None:
    """How many of the unit on the right one of the left is: 1024 bytes a KiB; None if it is no such unit.

    >>> factor("KiB", "bytes")
    Fraction(1024, 1)
    """
    return UNITS.get(counted_in, {}).get(unit.translate(MICRO))


def read_amount(value: object, counted_in: str) -> object:
    """``"64KiB"`` as 65536 bytes, an integer where it is one; what is no string is left as it is.

    Raises:
        ValueError: no number with one of the units.
    """
    if not isinstance(value, str):
        return value
    match = _AMOUNT.fullmatch(value) if len(value) <= 100 else None
    unit_factor = None if match is None else factor(match[3], counted_in)
    if match is None or unit_factor is None:
        units = ", ".join(UNITS[counted_in])
        raise ValueError(f"write a number of {counted_in}, or a string of a number and one of the units {units}")
    amount = Fraction(match[1] + (match[2] or "")) * unit_factor
    try:
        return int(amount) if amount.denominator == 1 else float(amount)
    except OverflowError:
        return math.inf


def _text(counted_in: str) -> Any:
    units = "|".join(UNITS[counted_in])
    return Annotated[str, Field(pattern=rf"^\s*(\d+\.?\d*|\.\d+)([eE][+-]?\d{{1,3}})?\s*({units}|[µμ][Js])\s*$")]


def _reader(counted_in: str, number: Any) -> Any:
    return BeforeValidator(
        lambda value: read_amount(value, counted_in), json_schema_input_type=number | _text(counted_in)
    )


Bytes = Annotated[Count, _reader("bytes", Count)]
"""A whole number of bytes, or a string such as ``"64KiB"``."""
Picojoules = Annotated[Cost, _reader("pJ", Cost)]
"""An energy in pJ, or a string such as ``"1.5nJ"``."""
PositivePicojoules = Annotated[Positive, _reader("pJ", Positive)]
"""The same, above zero."""
Seconds = Annotated[Positive, _reader("s", Positive)]
"""A time in seconds, or a string such as ``"10ms"``."""
Hertz = Annotated[Positive, _reader("Hz", Positive)]
"""A frequency in Hz, or a string such as ``"200MHz"``."""
