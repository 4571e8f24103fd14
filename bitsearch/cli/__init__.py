"""The command line: parse, call, print."""

import os
import sys
import warnings
from typing import TextIO

import typer

from bitsearch.cli import compare, data, deploy, doctor, plans, profile, report, run, targets, train, worker
from bitsearch.errors import InputError, one_line
from bitsearch.launch import is_rank_zero

app = typer.Typer(
    name="bitsearch",
    help="Finds how many weight bits, spike bits and time steps every layer of a spiking neural network deserves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("worker")(worker.worker)
app.command("proxy")(worker.proxy)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("dashboard")(report.dashboard)
app.command("export")(plans.export)
app.command("evaluate")(plans.evaluate)
app.command("train")(train.train)
app.command("deploy")(deploy.deploy)
app.command("verify")(deploy.verify)
app.command("profile")(profile.profile)
app.command("spaces")(plans.spaces)
app.add_typer(targets.app, name="targets")
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command; an InputError ends it with one line and exit code 2, Ctrl-C with 130.

    Of several processes of one training, the first prints errors.
    """
    warnings.showwarning = _one_line
    is_first_process = True
    try:
        is_first_process = is_rank_zero()
        # Torch's C++ warns about its own choices, once a process.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        app()
    except InputError as error:
        if is_first_process:
            print(f"bitsearch: {one_line(str(error))}", file=sys.stderr)
        sys.exit(2)


def _one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"bitsearch: {one_line(str(message))}", file=sys.stderr)
