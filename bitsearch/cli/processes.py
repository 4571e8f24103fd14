"""``--processes``: a command in several processes of this machine that train together."""

import sys

from bitsearch.errors import InputError
from bitsearch.launch import world_size


def train_together(processes: int | None) -> None:
    """Run this command in so many processes, and leave with their exit code; return in each of them, and in one alone.

    Raises:
        InputError: a launcher has started another number of them already.
    """
    started = world_size()
    if started > 1 and processes not in (None, started):
        raise InputError(f"--processes is {processes}, but a launcher started {started} of them; leave the option out")
    if started > 1 or processes in (None, 1):
        return
    from bitsearch.allocate.launcher import run_processes

    sys.exit(run_processes(processes, ["-m", "bitsearch", *sys.argv[1:]]))
