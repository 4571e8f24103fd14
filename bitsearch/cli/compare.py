"""``bitsearch compare``."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from bitsearch.cli.options import (
    DeviceOption,
    LayerOption,
    LoggerOption,
    MetricOption,
    QuietOption,
    SetOption,
    SpaceChoice,
    TargetOption,
    TieOption,
    TrainedWeightsOption,
    VerboseOption,
)
from bitsearch.cli.space_options import space_from_options
from bitsearch.cli.terminal.console import Console, make_console, print_json
from bitsearch.cli.terminal.progress import Bars

DEFAULT_METHODS = "adaptive,sensitivity,uniform,random,full_precision"


def compare(
    methods: Annotated[
        str, typer.Option(help="Methods, separated by commas; full_precision is what every trial starts from.")
    ] = DEFAULT_METHODS,
    budget: Annotated[
        list[str] | None,
        typer.Option(help="As for `bitsearch run`: 4x (the default), or METRIC=AMOUNT; several times if you like."),
    ] = None,
    space: SpaceChoice = None,
    weights: TrainedWeightsOption = None,
    layer: LayerOption = None,
    tie: TieOption = None,
    overrides: SetOption = None,
    metric: MetricOption = None,
    target: TargetOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of weights, batches and sampler: 0, 1, …")] = 3,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials of every method and seed; the space's by default.")
    ] = None,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder; one with the same comparison goes on. Default: reports/compare-SPACE-DATE-N."),
    ] = None,
    logger: LoggerOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Compare methods: same network, data, epochs and starting weights; a table and the fronts in one page."""
    errors = make_console(quiet=quiet, verbose=verbose)
    search_space = space_from_options(
        space, weights=weights, overrides=overrides or (), layers=layer or (), ties=tie or ()
    )
    with errors.status("Loading torch, data and network"):
        from bitsearch.cli.terminal.tables import print_comparison
        from bitsearch.report import write_comparison
        from bitsearch.runs.command_line import shell_command
        from bitsearch.study.compare import compare as run_comparison

    bars = Bars(errors, epochs=verbose)
    try:
        with bars:
            comparison = run_comparison(
                search_space,
                budget or ["4x"],
                [name.strip() for name in methods.split(",")],
                seeds=seeds,
                trials=trials,
                metric=metric,
                target=target,
                device=device,
                out=out,
                logger=logger,
                progress=bars,
                command=shell_command(sys.argv[1:]),
            )
    except KeyboardInterrupt:
        folder = bars.folder.parent if bars.folder is not None else None
        errors.print(f"Interrupted. To go on, give the same command with --out {folder}", highlight=False)
        raise typer.Exit(130) from None
    page = write_comparison(comparison)
    if as_json:
        content = {
            "folder": str(comparison.path),
            "page": str(page),
            # pandas writes what is missing as null.
            "results": json.loads(comparison.results.to_json(orient="records", double_precision=15)),
            "verdicts": [{"seed": seed} | verdict.as_json() for seed, verdict in comparison.verdicts.items()],
        }
        print_json(json.dumps(content, indent=2))
    else:
        print_comparison(comparison, page, Console())
