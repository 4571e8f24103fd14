"""``bitsearch allocate``."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from bitsearch.cli.options import (
    DataArgOption,
    DataOption,
    DeviceOption,
    LayerOption,
    MetricOption,
    ModelArgOption,
    ModelOption,
    QuietOption,
    SetOption,
    SpaceChoice,
    SpikesOption,
    TargetOption,
    TimeStepsOption,
    TrainedWeightsOption,
    VerboseOption,
)
from bitsearch.cli.run import how_to_go_on, result_as_json
from bitsearch.cli.space_options import space_from_options
from bitsearch.cli.terminal.console import Console, make_console, print_json
from bitsearch.cli.terminal.progress import Bars
from bitsearch.validation import MAX_SEEDS


def allocate(
    budgets: Annotated[
        str, typer.Option(metavar="BUDGETS", help="Budgets on one metric, a plan for each.")
    ] = "4x,8x,16x,32x",
    budget: Annotated[
        list[str] | None,
        typer.Option(help="A further budget on another metric, such as memory=64KiB, which every plan meets."),
    ] = None,
    space: SpaceChoice = None,
    model: ModelOption = None,
    model_arg: ModelArgOption = None,
    data: DataOption = None,
    data_arg: DataArgOption = None,
    weights: TrainedWeightsOption = None,
    spikes: SpikesOption = None,
    time_steps: TimeStepsOption = None,
    layer: LayerOption = None,
    overrides: SetOption = None,
    metric: MetricOption = None,
    target: TargetOption = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Training samples, without labels, to score and calibrate on.")
    ] = 256,
    iterations: Annotated[
        int, typer.Option(min=0, help="Of every reconstruction of roundings and steps; 0 leaves it out.")
    ] = 100,
    fine_tune: Annotated[
        int, typer.Option(metavar="EPOCHS", min=0, help="Train the best plans of every budget on, with labels.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEEDS - 1, help="Seed of the samples and of training.")] = 0,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; one of the same allocation goes on. Default: reports/SPACE-DATE-N."),
    ] = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Plans for several budgets in minutes: score a trained network once, then solve and calibrate, without training.

    Without --weights, the network is trained in full precision first.
    """
    errors = make_console(quiet=quiet, verbose=verbose)
    search_space = space_from_options(
        space,
        model=model,
        data=data,
        model_args=model_arg or (),
        data_args=data_arg or (),
        weights=weights,
        spikes=spikes,
        time_steps=time_steps,
        overrides=overrides or (),
        layers=layer or (),
    )
    with errors.status("Loading torch, data and network"):
        from bitsearch.cli.terminal.tables import print_result
        from bitsearch.post_training.run import allocate as run_allocation
        from bitsearch.report import write_report
        from bitsearch.runs.command_line import shell_command

    bars = Bars(errors, epochs=verbose)
    try:
        with bars:
            result = run_allocation(
                search_space,
                budgets=budgets,
                budget=budget or (),
                metric=metric,
                target=target,
                samples=samples,
                iterations=iterations,
                fine_tune=fine_tune,
                seed=seed,
                device=device,
                out=out,
                progress=bars,
                command=shell_command(sys.argv[1:]),
            )
    except KeyboardInterrupt:
        errors.print(f"Interrupted. {how_to_go_on(bars.folder)}", highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None
    page = write_report(result.folder)
    if as_json:
        print_json(json.dumps(result_as_json(result, page), indent=2))
    else:
        print_result(result, page, Console())
