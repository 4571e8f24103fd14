"""Options that several commands share."""

import logging
import warnings
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

StorageOption = Annotated[
    str | None,
    typer.Option(
        envvar="BITSEARCH_STORAGE",
        show_envvar=True,
        help="Database of a study that several machines work on: postgresql://user@host/database. Its password is "
        "better left to ~/.pgpass or PGPASSWORD.",
    ),
]
ArtifactsOption = Annotated[
    str | None,
    typer.Option(help="Folder that all machines see, or s3://bucket, for plans and weights of a study in --storage."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Print every epoch, and what libraries log.")]


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
