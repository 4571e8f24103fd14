"""``--spikes`` and ``--time-steps``: what networks of spikes usually have, as settings of a search space."""

import re

from bitsearch.choices import Span
from bitsearch.errors import InputError
from bitsearch.space import SearchSpace
from bitsearch.validation import MAX_BITS, MAX_TIME_STEPS

_RANGE = re.compile(r"\s*(\d{1,6})(?:\s*\.\.\s*(\d{1,6}))?\s*")


def bit_settings(space: SearchSpace, spikes: str | None, time_steps: str | None) -> list[str]:
    """Settings of ``space`` for both options: choices, the start and the baseline, which go together.

    The baseline that ``4x`` refers to has the most time steps of the range, as the network would run without a search,
    and the spike bits of the range that are nearest to those of the space's own baseline.

    Args:
        space: whose settings are changed.
        spikes: ``binary``, a number of bits, or a range of them such as ``1..4``; None changes nothing.
        time_steps: a number of steps, or a range such as ``2..8``; None changes nothing.

    Raises:
        InputError: another text, or a number that no layer can have.
    """
    settings = []
    if spikes is not None:
        text = "1" if spikes.strip() == "binary" else spikes
        span = _span(text, f"--spikes is {spikes!r}; give binary, or 1 to {MAX_BITS} bits such as 2 or 1..4", MAX_BITS)
        settings += _settings("spike_bits", span, span.nearest(space.baseline.spike_bits))
    if time_steps is not None:
        advice = f"--time-steps is {time_steps!r}; give 1 to {MAX_TIME_STEPS:,} steps such as 4 or 2..8"
        span = _span(time_steps, advice, MAX_TIME_STEPS)
        settings += _settings("time_steps", span, span.high)
    return settings


def _settings(number: str, span: Span, uniform: int) -> list[str]:
    return [
        f"choices.{number}={{low = {span.low}, high = {span.high}}}",
        f"baseline.{number}={uniform}",
        f"allocation.start.{number}={uniform}",
    ]


def _span(text: str, advice: str, most: int) -> Span:
    match = _RANGE.fullmatch(text)
    low, high = (0, 0) if match is None else (int(match[1]), int(match[2] or match[1]))
    if not 1 <= low <= high <= most:
        raise InputError(advice)
    return Span(low=low, high=high)
