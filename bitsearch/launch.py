"""The rank of this process and the number of processes, read from the environment variables that a launcher sets.

``torchrun``, ``bitsearch run --processes`` and a cluster's own wrappers set the variables that torch's ``env://``
rendezvous reads. This module does not import torch, so that the command line can call it before anything is loaded.
"""

import os

from bitsearch.errors import InputError

_RENDEZVOUS_VARIABLES = ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Besides WORLD_SIZE and RANK: without one of these, processes cannot find each other or their devices."""


def launched_world_size() -> int:
    """The number of processes that a launcher started to train together; 1 without a launcher.

    A launcher that sets only one of RANK and WORLD_SIZE starts independent processes, of which each counts as one.

    Raises:
        InputError: RANK and WORLD_SIZE are set, and a variable that the rendezvous needs is missing.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1" or "RANK" not in os.environ:
        return 1
    missing = [name for name in _RENDEZVOUS_VARIABLES if name not in os.environ]
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
    """The number of the processes on this machine."""
    return _number("LOCAL_WORLD_SIZE") if launched_world_size() > 1 else 1


def is_rank_zero() -> bool:
    """True in the process that writes files, prints and decides."""
    return launched_rank() == 0


def _number(name: str) -> int:
    text = os.environ[name]
    if not text.isdecimal():
        raise InputError(f"the environment variable {name} is {text!r}; a launcher sets it to a whole number")
    return int(text)
