"""How many threads a network is worth."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

ELEMENTS_PER_THREAD = 1e6
"""Fewer activations a batch than this for every thread, and threads wait for each other longer than they work."""


def threads_for(activations: float) -> int:
    """How many of torch's threads ``activations`` elements a batch keep busy, at least one."""
    return max(1, min(torch.get_num_threads(), int(activations / ELEMENTS_PER_THREAD)))


@contextmanager
def limited_threads(activations: float) -> Iterator[None]:
    """Inside, torch computes with :func:`threads_for` threads.

    Results depend on the number of threads in their last bits, so whoever repeats a measurement uses this too.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads_for(activations))
    try:
        yield
    finally:
        torch.set_num_threads(before)
