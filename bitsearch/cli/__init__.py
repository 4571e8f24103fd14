"""The command line: parse, call, print."""

import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Annotated, TextIO

import typer

from bitsearch.cli import (
    allocate,
    compare,
    data,
    deploy,
    diff,
    doctor,
    merge,
    networks,
    plans,
    profile,
    report,
    run,
    sensitivity,
    targets,
    train,
    worker,
)
from bitsearch.errors import InputError, one_line, user_fault
from bitsearch.launch import is_rank_zero
from bitsearch.version import __version__

FIRST_SPEAKS = 10.0
"""Seconds that another process leaves the first one to say what is wrong."""
UsageError = typer.BadParameter.__base__ or Exception
"""What the parser of the command line raises, whichever version of it there is."""

app = typer.Typer(
    name="bitsearch",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

COMMANDS: dict[str, dict[str, Callable[..., object]]] = {
    "Find plans": {
        "run": run.run,
        "allocate": allocate.allocate,
        "compare": compare.compare,
        "train": train.train,
    },
    "Look at plans": {
        "report": report.report,
        "dashboard": report.dashboard,
        "export": plans.export,
        "diff": diff.diff,
        "merge": merge.merge,
        "evaluate": plans.evaluate,
    },
    "Look at a network": {"profile": profile.profile, "sensitivity": sensitivity.sensitivity},
    "Deploy": {"deploy": deploy.deploy, "verify": deploy.verify},
    "What there is": {
        "spaces": plans.spaces,
        "networks": networks.app,
        "targets": targets.app,
        "data": data.app,
        "doctor": doctor.doctor,
    },
    "Several machines": {"worker": worker.worker, "proxy": worker.proxy},
}
"""Every command under the heading of its help, in the order of work."""

FIRST_STEPS = """\
bitsearch finds how many weight bits, spike bits and time steps every layer of
a spiking neural network deserves.

  bitsearch run --budget 4x
      a first plan, for handwritten digits
  bitsearch run --space mine.toml --weights trained.pth --budget 8x
      one for a trained network of your own
  bitsearch export reports/RUN --budget 16x -o plan.json
      another plan of a finished run
  bitsearch deploy plan.json --format c -o network
      its network as C (or ONNX, NIR, …)

bitsearch --help lists all commands, bitsearch COMMAND --help explains one."""
"""What `bitsearch` alone prints, at most 80 columns wide."""


def _print_version(requested: bool) -> None:
    if requested:
        print(f"bitsearch {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Finds how many weight bits, spike bits and time steps every layer of a spiking neural network deserves."""
    if context.invoked_subcommand is None:
        print(FIRST_STEPS)


for _panel, _commands in COMMANDS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            app.command(_name, rich_help_panel=_panel)(_command)


def main() -> None:
    """Run the command; what the user can act on ends it with one line and exit code 2, Ctrl-C with 130.

    That is an InputError, a wrong option, a file that the system refuses, and whatever the user's own network and data
    raise, be it to end the program. Of several processes of one training, the first prints errors; another one prints
    its own if the launcher, which ends all where one has failed, lets it live for :data:`FIRST_SPEAKS` seconds.
    """
    warnings.showwarning = _one_line
    is_first_process = True
    try:
        is_first_process = is_rank_zero()
        # Torch's C++ warns about its own choices, once a process.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        sys.exit(app(prog_name="bitsearch", standalone_mode=False) or 0)
    except BaseException as error:
        message = _message(error)
        if message is None:
            raise
        if message and not is_first_process:
            # Ended at once, it would take the first process along before that has said anything.
            time.sleep(FIRST_SPEAKS)
        if message:
            print(f"bitsearch: {one_line(message)}", file=sys.stderr)
        sys.exit(2)


def _message(error: BaseException) -> str | None:
    """What the user is told of an exception; empty where the help has been printed, None for a fault of bitsearch."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return None
    if isinstance(error, UsageError):
        return str(error.format_message())  # type: ignore[attr-defined]  # of click, which typer brings
    fault = user_fault(error)
    if fault is not None:
        return f"the network or the data failed at {fault}"
    if isinstance(error, OSError):
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{error.strerror or error}; give another file or folder, or mend this one"
    if isinstance(error, MemoryError):
        return "there is not enough memory; take a smaller network, input or batch"
    return None


def _one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"bitsearch: {one_line(str(message))}", file=sys.stderr)
