"""The console on stderr: progress and messages, as many as were asked for."""

import logging
import warnings

import typer
from rich.console import Console
from rich.logging import RichHandler


def speak(*, quiet: bool, verbose: bool) -> Console:
    """The console on stderr, which says as much as was asked for."""
    if quiet and verbose:
        raise typer.BadParameter("--quiet and --verbose were both given; give one of them")
    console = Console(stderr=True, quiet=quiet)
    if quiet:
        warnings.simplefilter("ignore")
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", handlers=[RichHandler(console=console)])
    return console
