"""Ticks of a logarithmic cost axis at values that people know: 16, 32, 64; 1 M, 2 M, 5 M; 4 KiB, 8 KiB."""

import math

from bitsearch.report.format import unit


def cost_ticks(metric: str, low: float, high: float, most: int = 7) -> list[float]:
    """At most ``most`` round values between two positive costs; empty where the range is too narrow for two."""
    for stride in range(1, 60):
        for ladder in _ladders(metric, low, high, stride):
            found = [value for value in ladder if low <= value <= high]
            if len(found) <= most:
                return found if len(found) > 1 else []
    return []


def _ladders(metric: str, low: float, high: float, stride: int) -> list[list[float]]:
    """Rows of round values around a range; the larger the stride the fewer values."""
    if unit(metric) in ("bits", "bytes"):
        first, last = math.floor(math.log2(low)), math.ceil(math.log2(high))
        return [[2.0**power for power in range(first - first % stride, last + 1, stride)]]
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = range(first - first % stride, last + 1, stride)
    fine = [[digit * 10.0**power for power in decades for digit in (1, 2, 5)]] if stride == 1 else []
    return [*fine, [10.0**power for power in decades]]
