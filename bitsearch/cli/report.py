"""Commands that show a run: ``report``, ``dashboard``."""

from pathlib import Path
from typing import Annotated

import typer

from bitsearch.cli.terminal.console import print_line
from bitsearch.errors import InputError

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder that `bitsearch run` wrote.")]


def report(
    run: RunArgument,
    figures: Annotated[
        str | None,
        typer.Option(metavar="FORMATS", help="Also write figures and tables for a paper: pdf, svg, png, by commas."),
    ] = None,
) -> None:
    """Write the Pareto page of a run anew; with --figures, also images and LaTeX and Markdown tables."""
    from bitsearch.report import write_report
    from bitsearch.runs.folder import RunFolder

    folder = RunFolder.open(run)
    if figures is not None:
        from bitsearch.report.paper import parse_formats, write_paper

        formats = parse_formats(figures)
        print_line(write_report(folder))
        for path in write_paper(folder, formats):
            print_line(path)
    else:
        print_line(write_report(folder))


def dashboard(
    run: RunArgument,
    host: Annotated[str, typer.Option(help="Address to listen on; by default only this machine can connect.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8080,
) -> None:
    """Watch a run in optuna-dashboard while it goes on, with its plans and figures attached."""
    from bitsearch.report.dashboard import serve
    from bitsearch.report.host_check import is_loopback
    from bitsearch.runs.folder import RunFolder

    if not host.strip() or not host.isprintable() or " " in host:
        raise InputError(f"--host is {host!r}; give an address such as 127.0.0.1")
    folder = RunFolder.open(run)
    if not is_loopback(host):
        typer.echo(f"bitsearch: anyone who can reach {host}:{port} can read this run", err=True)
    typer.echo(f"http://{host}:{port}  (Ctrl-C ends it)", err=True)
    serve(folder, host, port)
