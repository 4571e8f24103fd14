"""``bitsearch merge``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from bitsearch.cli.options import DeviceOption, QuietOption, TrustOption
from bitsearch.cli.terminal.console import Console, make_console


def merge(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Run folders of one network on the same data.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="New run folder, with all of their plans.")],
    trust: TrustOption = False,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Join the plans of several runs: one front, one choice, one page; the first run's budgets judge them all."""
    with make_console(quiet=quiet, verbose=False).status("Loading torch, data and network"):
        from bitsearch.cli.terminal.tables import print_result
        from bitsearch.report import write_report
        from bitsearch.runs.command_line import shell_command
        from bitsearch.study.merge import merge as merge_runs

        result = merge_runs(runs, out, trust=trust, device=device, command=shell_command(sys.argv[1:]))
    print_result(result, write_report(result.folder), Console())
