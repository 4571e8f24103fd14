import functools
from importlib import import_module

import pytest

from benchmarks.overhead import TIMED


@pytest.mark.parametrize("place", [place for places in TIMED.values() for place in places])
def test_what_is_timed_is_there(place):
    module, _, path = place.partition(":")
    assert callable(functools.reduce(getattr, path.split("."), import_module(module)))
