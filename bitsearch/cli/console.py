"""The start of a command: its console on stderr, and the processes of a training in several processes."""

import logging
import sys
import warnings

import typer
from rich.console import Console
from rich.logging import RichHandler

from bitsearch.errors import InputError
from bitsearch.launch import launched_world_size


def make_console(*, quiet: bool, verbose: bool) -> Console:
    """The console on stderr; ``quiet`` silences it and warnings, ``verbose`` adds the libraries' logs."""
    if quiet and verbose:
        raise typer.BadParameter("--quiet and --verbose were both given; give one of them")
    console = Console(stderr=True, quiet=quiet)
    if quiet:
        warnings.simplefilter("ignore")
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", handlers=[RichHandler(console=console)])
    return console


def train_together(processes: int | None) -> None:
    """Run the command in ``processes`` new processes and exit with their code; return in these, or without several.

    Raises:
        InputError: a launcher has started another number of processes.
    """
    process_count = launched_world_size()
    if process_count > 1 and processes not in (None, process_count):
        raise InputError(
            f"--processes is {processes}, but a launcher started {process_count} of them; leave the option out"
        )
    if process_count > 1 or processes in (None, 1):
        return
    from bitsearch.train.launcher import run_processes

    sys.exit(run_processes(processes, ["-m", "bitsearch", *sys.argv[1:]]))
