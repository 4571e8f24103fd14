"""How a command starts: its console on stderr, and its processes where several train together."""

import logging
import sys
import warnings

import typer
from rich.console import Console
from rich.logging import RichHandler

from bitsearch.errors import InputError
from bitsearch.launch import launched_world_size


def make_console(*, quiet: bool, verbose: bool) -> Console:
    """The console on stderr, which says as much as was asked for."""
    if quiet and verbose:
        raise typer.BadParameter("--quiet and --verbose were both given; give one of them")
    console = Console(stderr=True, quiet=quiet)
    if quiet:
        warnings.simplefilter("ignore")
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", handlers=[RichHandler(console=console)])
    return console


def train_together(processes: int | None) -> None:
    """Run this command in so many processes, and leave with their exit code; return in each of them, and in one alone.

    Raises:
        InputError: a launcher has started another number of them already.
    """
    started = launched_world_size()
    if started > 1 and processes not in (None, started):
        raise InputError(f"--processes is {processes}, but a launcher started {started} of them; leave the option out")
    if started > 1 or processes in (None, 1):
        return
    from bitsearch.train.launcher import run_processes

    sys.exit(run_processes(processes, ["-m", "bitsearch", *sys.argv[1:]]))
