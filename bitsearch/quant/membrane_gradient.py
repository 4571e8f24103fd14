"""Whether gradients go back through the membranes, from a time step to the ones before it.

Published adaptive allocation cuts them there: what a step leaves on the membrane is a constant to the next one. With
backpropagation through time it is not.
"""

from collections.abc import Iterator
from contextlib import contextmanager

_is_active = False


@contextmanager
def gradients_through_time() -> Iterator[None]:
    """A context whose forward passes keep what backpropagation through the membranes needs."""
    global _is_active
    was_active, _is_active = _is_active, True
    try:
        yield
    finally:
        _is_active = was_active


def goes_through_time() -> bool:
    """True inside :func:`gradients_through_time`."""
    return _is_active
