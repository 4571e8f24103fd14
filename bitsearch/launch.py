"""Which of the processes that train together this one is, as a launcher tells it in the environment.

``torchrun``, ``bitsearch run --processes`` and a cluster's own wrappers set the variables that torch's ``env://``
rendezvous reads. This module knows no torch, so that the command line can ask before anything is loaded.
"""

import os

from bitsearch.errors import InputError

_NEEDED = ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Besides WORLD_SIZE and RANK: without one of these, processes cannot find each other or their devices."""


def launched_world_size() -> int:
    """How many processes were started to train together; 1 for a process of its own.

    A launcher that sets RANK or WORLD_SIZE alone starts processes that do not know each other: each is one of its own.

    Raises:
        InputError: RANK and WORLD_SIZE say that there are several, and what they need to meet is missing.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1" or "RANK" not in os.environ:
        return 1
    missing = [name for name in _NEEDED if name not in os.environ]
    if missing:
        raise InputError(
            f"WORLD_SIZE={size} and RANK={os.environ['RANK']} say that several processes train together, but "
            f"{', '.join(missing)} is not set; start them with --processes or torchrun, or unset WORLD_SIZE and RANK"
        )
    return _number("WORLD_SIZE")


def launched_rank() -> int:
    """This process's number among all that were started, from 0."""
    return _number("RANK") if launched_world_size() > 1 else 0


def local_rank() -> int:
    """This process's number among those on this machine, from 0: that of its GPU."""
    return _number("LOCAL_RANK") if launched_world_size() > 1 else 0


def local_world_size() -> int:
    """How many of the processes run on this machine."""
    return _number("LOCAL_WORLD_SIZE") if launched_world_size() > 1 else 1


def is_rank_zero() -> bool:
    """True in the one process that writes, prints and decides."""
    return launched_rank() == 0


def _number(name: str) -> int:
    text = os.environ[name]
    if not text.isdecimal():
        raise InputError(f"the environment variable {name} is {text!r}; a launcher sets it to a whole number")
    return int(text)
