"""Whether inputs may be below zero: told by the training samples, where they are in memory."""

from bitsearch.data.splits import Samples, in_memory

_AT_ONCE = 1024
"""Samples that are looked at together."""


def has_negative_inputs(samples: Samples) -> bool | None:
    """True if any sample's input is below zero anywhere; None for samples that are read from elsewhere one by one.

    An augmentation is not looked at.
    """
    source, indices = in_memory(samples)
    if source is None:
        return None
    return any(bool((source[part.tolist()][0] < 0).any()) for part in indices.split(_AT_ONCE))
