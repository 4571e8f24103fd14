import warnings

import pytest
from small_network import network, splits, trained

from bitsearch.post_training.run import allocate

__all__ = ["network", "splits", "trained"]

QUICK = {"metric": "s_ace", "samples": 64, "iterations": 3, "command": "bitsearch allocate --budgets 2x,6x"}
"""Of a linear metric, whose integer program takes milliseconds."""


@pytest.fixture(scope="session")
def quick():
    """Allocate with few samples and iterations; what plans lose then is not what a test is about."""

    def run(*arguments, **options):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "allocate: at ", UserWarning)
            return allocate(*arguments, **QUICK | options)

    return run


@pytest.fixture(scope="session")
def allocated(tiny_space, made_once, quick):
    """A finished allocation at two budgets; tests only read it."""
    return made_once("allocated", lambda path: quick(tiny_space, budgets="2x,6x", out=path))
