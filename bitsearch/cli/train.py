"""``bitsearch train``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from bitsearch.cli.options import DeviceOption, QuietOption, SetOption, TrustOption, VerboseOption
from bitsearch.cli.plans import PlanArgument, SpaceOption
from bitsearch.cli.terminal.console import make_console, print_line
from bitsearch.cli.terminal.progress import Bars


def train(
    plan: PlanArgument,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training split; the space's own.")] = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="Weights to start from: this plan's, or full-precision ones. Fresh by default."),
    ] = None,
    space: SpaceOption = None,
    overrides: SetOption = None,
    trust: TrustOption = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Plan to write, weights beside it; by default PLAN.trained.json."),
    ] = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Train or fine-tune a plan; stopped, the same command goes on. Writes weights and measured accuracy."""
    errors = make_console(quiet=quiet, verbose=verbose)
    with errors.status("Loading torch, data and network"):
        from bitsearch.runs.command_line import shell_command
        from bitsearch.runs.train_plan import train_plan

    bars = Bars(errors, epochs=verbose)
    try:
        with bars:
            result = train_plan(
                plan,
                epochs=epochs,
                start=start,
                space=space,
                overrides=overrides or (),
                trust=trust,
                output=output,
                device=device,
                progress=bars,
                command=shell_command(sys.argv[1:]),
            )
    except KeyboardInterrupt:
        errors.print("Interrupted. The same command goes on after the last whole epoch.")
        raise typer.Exit(130) from None
    scores = result.plan.measured
    name = scores.score.name
    print(f"validation {name} {scores.validation:.4f}, test {name} {scores.test:.4f}")
    print_line(f"plan    {result.plan_file}")
    print_line(f"weights {result.weights_file}")
