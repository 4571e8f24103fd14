"""``bitsearch sensitivity``."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from bitsearch.cli.options import (
    DataArgOption,
    DataOption,
    DeviceOption,
    LayerOption,
    ModelArgOption,
    ModelOption,
    QuietOption,
    SetOption,
    SpikesOption,
    TargetOption,
    TieOption,
    TimeStepsOption,
    TrainedWeightsOption,
    TrustOption,
)
from bitsearch.cli.space_options import DEFAULT_SPACE, space_from_options
from bitsearch.cli.terminal.completion import complete_space
from bitsearch.cli.terminal.console import Console, make_console, print_json, print_line
from bitsearch.cli.terminal.progress import counting
from bitsearch.errors import InputError
from bitsearch.validation import MAX_SEEDS

if TYPE_CHECKING:
    from bitsearch.allocation.sensitivity.records import Sensitivities

LAYERS = 12
"""Layers that the terminal's tables show, the worst; the files have all."""
WIDTHS = 7
"""Values of a number that fit beside each other in 80 columns, the fewest; the files have all."""
NAME = 10
"""Characters of a layer's name in a table of 80 columns."""


def sensitivity(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|SPACE",
            autocompletion=complete_space,
            help="A run folder, whose full-precision network is measured; or a search space, with --weights.",
        ),
    ] = None,
    model: ModelOption = None,
    model_arg: ModelArgOption = None,
    data: DataOption = None,
    data_arg: DataArgOption = None,
    weights: TrainedWeightsOption = None,
    spikes: SpikesOption = None,
    time_steps: TimeStepsOption = None,
    layer: LayerOption = None,
    tie: TieOption = None,
    overrides: SetOption = None,
    target: TargetOption = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Validation samples to measure; by default what takes two training epochs' time."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEEDS - 1, help="Seed of the samples that are drawn.")] = 0,
    device: DeviceOption = "auto",
    trust: TrustOption = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the files; the run folder by default, or reports/SPACE-sensitivity."),
    ] = None,
    quiet: QuietOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything measured as JSON on stdout.")] = False,
) -> None:
    """Measure what each layer's bits and time steps are worth to a trained network; trains nothing."""
    from bitsearch.report.sensitivity_page import write_sensitivity
    from bitsearch.runs.command_line import shell_command
    from bitsearch.runs.folder import RunFolder
    from bitsearch.study.sensitivity import sensitivity as measure

    errors = make_console(quiet=quiet, verbose=False)
    options = (model, data, model_arg, data_arg, weights, spikes, time_steps, layer, tie, overrides)
    is_run = source is not None and Path(source).is_dir()
    if is_run and any(options):
        raise InputError(f"{source} is a run folder, whose network and data are fixed; give a search space instead")
    run = RunFolder.open(source or "") if is_run else None
    given = run or space_from_options(
        source or (None if model or data else DEFAULT_SPACE),
        model=model,
        data=data,
        model_args=model_arg or (),
        data_args=data_arg or (),
        weights=weights,
        spikes=spikes,
        time_steps=time_steps,
        layers=layer or (),
        ties=tie or (),
        overrides=overrides or (),
    )
    with counting(errors, "measuring") as on_progress:
        measured = measure(
            given,
            target=target,
            samples=samples,
            seed=seed,
            device=device,
            trust=trust,
            on_progress=on_progress,
            command=shell_command(sys.argv[1:]),
        )
    folder = out or (run.path if run else Path("reports") / f"{measured.space}-sensitivity")
    paths = write_sensitivity(measured, folder)
    if as_json:
        rows = json.loads(measured.table().to_json(orient="records"))
        print_json(json.dumps(measured.model_dump(mode="json") | {"widths": rows, "layers": measured.layers}, indent=2))
        return
    print_sensitivities(measured)
    for path in paths:
        print_line(path)


def print_sensitivities(measured: "Sensitivities") -> None:
    """Two tables of 80 columns: the loss at every width, and the worst of every layer with its cause."""
    from bitsearch.allocation.sensitivity.records import SYMBOLS
    from bitsearch.text import score_text, short_names

    console = Console()
    layers = measured.layers[:LAYERS]
    labels = dict(zip(measured.layers, short_names(measured.layers, NAME), strict=True))
    loss = f"{measured.loss:.4g}"
    score = (
        ""
        if measured.score is None
        else f", {score_text(measured.score, measured.score_kind)} {measured.score_kind.name}"
    )
    console.print(Text(f"{measured.network} at its finest: loss {loss}{score}, {measured.samples} validation samples"))
    values = sorted({row.value for name in layers for row in measured.of(name)})[:WIDTHS]
    table = Table(title="What the loss gains, measured; predicted below", title_justify="left")
    table.add_column("layer", no_wrap=True)
    table.add_column("", no_wrap=True)
    for value in values:
        table.add_column(str(value), justify="right", no_wrap=True)
    for name in layers:
        for number, symbol in SYMBOLS.items():
            rows = {row.value: row for row in measured.of(name, number)}
            if not rows.keys() & set(values):
                continue
            cells = [Text(_short(rows[value].increase) if value in rows else "") for value in values]
            table.add_row(Text(labels[name]), symbol, *cells)
            predicted = [_short(rows[value].predicted) if value in rows else "" for value in values]
            table.add_row("", "", *(Text(text, style="dim") for text in predicted))
    console.print(table)
    worst = Table(title="The worst of each layer", title_justify="left")
    for title in ("layer", "at", "loss gains", "± s.e.", "why"):
        worst.add_column(title, justify="left" if title in ("layer", "why") else "right", no_wrap=True)
    for name in layers:
        row = measured.worst(name)
        symbol = SYMBOLS[row.number]
        error = "" if row.standard_error is None else _short(row.standard_error)
        worst.add_row(Text(labels[name]), f"{symbol} {row.value}", _short(row.increase), error, row.cause)
    console.print(worst)
    if len(measured.layers) > LAYERS:
        console.print(f"{len(measured.layers) - LAYERS} layers more are in the files below", highlight=False)


def _short(value: float | None) -> str:
    """In five characters; of a loss that falls by less than one, the minus stands in place of the zero."""
    if value is None:
        return "–"
    for text in (f"{value:z.3f}".replace("-0.", "-."), f"{value:z.2f}", f"{value:z.1f}"):
        if len(text) <= 5:
            return text
    return f"{value:.0e}"
