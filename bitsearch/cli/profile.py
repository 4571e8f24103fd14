"""``bitsearch profile``."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from bitsearch.choices import NUMBERS, Choices, FirstLayer
from bitsearch.cli.energy import check_energy_models, compare_energies, print_energies
from bitsearch.cli.options import (
    DataArgOption,
    DataOption,
    LayerOption,
    ModelArgOption,
    SetOption,
    SpikesOption,
    TieOption,
    TimeStepsOption,
    TrainedWeightsOption,
    TrustOption,
)
from bitsearch.cli.plans import plan_file
from bitsearch.cli.space_options import is_space, space_from_options
from bitsearch.cli.targets import figure_text
from bitsearch.cli.terminal.completion import complete_energy_model, complete_network_or_space, complete_target
from bitsearch.cli.terminal.console import Console, print_json, print_line
from bitsearch.energy_models import ENERGY_MODELS
from bitsearch.errors import InputError
from bitsearch.override import override
from bitsearch.plan import BitPlan, UniformBits
from bitsearch.space import SearchSpace

if TYPE_CHECKING:
    import pandas as pd

    from bitsearch.cost import AllowedBits, CostModel

TABLE_METRICS = ("s_ace", "weight_memory", "energy")
"""Metrics in the terminal's table, each beside its share; CSV and JSON have all metrics."""
MAX_INPUT = 2**28
"""Values of one input that fit into memory with what a network makes of them."""
MAX_CLASSES = 10_000_000
WIDE_COLUMNS = 110
"""Width of a terminal, in characters, from which the whole table fits."""
WIDE_NAME, NARROW_NAME = 28, 20
"""Characters of a layer's name in a table that fits, and in 80 columns."""


def profile(
    name: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|SPACE",
            autocompletion=complete_network_or_space,
            help="A search space, by name or .toml path; or a network, by name or package.module:factory.",
        ),
    ],
    plan: Annotated[
        Path | None,
        typer.Option(
            callback=plan_file, help="Bits of the layers; the space's baseline (w8 s4 T2 for a network) by default."
        ),
    ] = None,
    model_arg: ModelArgOption = None,
    data: DataOption = None,
    data_arg: DataArgOption = None,
    weights: TrainedWeightsOption = None,
    spikes: SpikesOption = None,
    time_steps: TimeStepsOption = None,
    layer: LayerOption = None,
    tie: TieOption = None,
    overrides: SetOption = None,
    target: Annotated[
        str | None, typer.Option(autocompletion=complete_target, help="Hardware target, by name or path.")
    ] = None,
    input_shape: Annotated[
        str,
        typer.Option(help="Shape of one input of a network, such as 3,224,224; a space and --data bring their own."),
    ] = "3,32,32",
    classes: Annotated[
        int, typer.Option(min=1, max=MAX_CLASSES, help="Classes of a network; a space and --data bring their own.")
    ] = 10,
    time_axis: Annotated[
        bool, typer.Option("--time-axis", help="The input shape starts with a time axis, such as 10,2,48,48.")
    ] = False,
    energy_model: Annotated[
        list[str] | None,
        typer.Option(
            "--energy-model",
            metavar="NAME",
            autocompletion=complete_energy_model,
            help="What another energy model says of a run's --plan, with its firing, beside the target's table; "
            "several times if you like:\n\n"
            + "\n\n".join(f"{name}: {entry.summary}." for name, entry in ENERGY_MODELS.items()),
        ),
    ] = None,
    trust: TrustOption = False,
    csv: Annotated[Path | None, typer.Option(help="Write every column to this CSV file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every column and the totals as JSON.")] = False,
) -> None:
    """Show what every layer of a network costs, without training anything."""
    from bitsearch.cli.terminal.progress import print_conversion
    from bitsearch.cost import AllowedBits
    from bitsearch.cost.budget import target_limits
    from bitsearch.cost.profile import profile as layer_table
    from bitsearch.deploy.rehearsal import rehearse
    from bitsearch.files import csv_text, write_whole
    from bitsearch.layers import conversion, convert
    from bitsearch.train.task import cost_preview

    shape, opinions = _shape(input_shape), dict.fromkeys(energy_model or ())
    check_energy_models(list(opinions), plan)
    source = _space_or_network(
        name,
        model_arg or (),
        data,
        data_arg or (),
        weights,
        spikes,
        time_steps,
        overrides or (),
        layer or (),
        tie or (),
    )
    options = override({}, model_arg or ())
    preview = cost_preview(
        source,
        options=options,
        bits=None if isinstance(source, SearchSpace) else _network_bits(spikes, time_steps),
        target=target,
        input_shape=shape,
        classes=classes,
        time_axis=time_axis,
    )
    model = preview.model
    rules = preview.rules
    if rules is None and model.target.format is not None:
        # A network alone has none; which of the target's bits it is rehearsed with is no matter.
        rules = AllowedBits.make(model, Choices(), FirstLayer())
    if rules is not None:
        rehearse(preview.network, preview.examples, rules.smallest(model), model.target)
    layers = preview.plan if plan is None else BitPlan.load(plan).layers
    table = layer_table(preview.network, model, layers, preview.rules)
    totals = {**model.costs(layers), "macs": int(table["macs"].sum()), "weights": int(table["weights"].sum())}
    energies = None
    if plan is not None and opinions:
        energies = compare_energies(list(opinions), plan, model, trust=trust)
    if csv is not None:
        write_whole(csv, csv_text(table))
    if as_json:
        rows = json.loads(table.to_json(orient="records"))
        limits = {
            limit.metric: {"limit": limit.limit, "met": totals[limit.metric] <= limit.limit}
            for limit in target_limits(model.target)
            if limit.metric in totals
        }
        shown = {"target": model.target.name, "layers": rows, "totals": totals, "limits": limits}
        if energies is not None:
            shown["energy_models"] = energies.record()
        print_json(json.dumps(shown, indent=2))
    else:
        _print(name, table, totals, model)
        _print_limits(totals, model, preview.rules)
        if preview.rules is not None:
            _print_choices(preview.rules)
        _print_inputs(table)
        if energies is not None:
            print_energies(energies)
        for tied in dict.fromkeys(row for row in table["tied"] if row):
            Console().print(Text(f"tied: {tied}"))
        converted = conversion(preview.network, convert(preview.network, layers), model)
        print_conversion(converted, Console())
        if csv is not None:
            print_line(csv)


def _space_or_network(
    name: str,
    model_args: Sequence[str],
    data: str | None,
    data_args: Sequence[str],
    weights: Path | None,
    spikes: str | None,
    time_steps: str | None,
    overrides: Sequence[str],
    layers: Sequence[str],
    ties: Sequence[str],
) -> SearchSpace | str:
    """The search space to profile, or the name of a bare network."""
    if is_space(name) or data is not None:
        space, model = (name, None) if is_space(name) else (None, name)
        return space_from_options(
            space,
            model=model,
            data=data,
            model_args=model_args,
            data_args=data_args,
            weights=weights,
            spikes=spikes,
            time_steps=time_steps,
            overrides=overrides,
            layers=layers,
            ties=ties,
        )
    if data_args:
        raise InputError(f"{data_args[0]!r} is an option of data that nobody named; give --data as well")
    if weights is not None:
        raise InputError(f"{weights} are weights for a network whose data nobody named; give --data as well")
    if overrides or layers or ties:
        setting = [*overrides, *layers, *ties][0]
        raise InputError(f"{setting!r} changes a search space, and {name!r} is none; profile a space instead")
    return name


def _network_bits(spikes: str | None, time_steps: str | None) -> UniformBits:
    """The bits of a network that no search space describes: those of the default space's baseline."""
    return space_from_options(None, spikes=spikes, time_steps=time_steps).baseline


def _shape(text: str) -> tuple[int, ...]:
    sizes = text.replace("x", ",").split(",")
    if not all(re.fullmatch(r"\s*0*[1-9][0-9]{0,9}\s*", size) for size in sizes):
        raise InputError(f"input shape is {text!r}; give positive sizes such as 3,32,32")
    shape = tuple(int(size) for size in sizes)
    if math.prod(shape) > MAX_INPUT:
        raise InputError(f"input shape is {text!r}, more than {MAX_INPUT:,} values; give the shape of one input")
    return shape


def _print_choices(rules: "AllowedBits") -> None:
    """What every layer may get, and by which rule."""
    from bitsearch import text as formats

    screen = Table(title="What each layer may get", title_justify="left")
    shown = [*NUMBERS, *(["membrane_bits"] if rules.membranes else [])]
    for column in ("layer", *(number.replace("_", " ") for number in shown), "by"):
        screen.add_column(column, overflow="fold")
    labels = formats.short_names(list(rules.choices), WIDE_NAME if Console().width >= WIDE_COLUMNS else NARROW_NAME)
    for label, (name, choices) in zip(labels, rules.choices.items(), strict=True):
        spans = [getattr(choices, number) for number in shown]
        values = ["" if span is None else figure_text(span.values) for span in spans]
        screen.add_row(Text(label), *values, Text(rules.origin(name)))
    Console().print(screen)


_LOOPS = {"frames": "once a frame", "same": "the same input, computed once", "shared": "at several places", "": ""}
"""What a layer's calls have to do with each other, in words."""


def _print_inputs(table: "pd.DataFrame") -> None:
    """What every layer reads, where there are neurons, frames or several calls."""
    rows = [row for row in table.to_dict("records") if row["reads"] or row["frames"] > 1 or row["calls"] > 1]
    if not rows:
        return
    screen = Table(title="Inputs", title_justify="left")
    for column in ("layer", "reads the spikes of", "frames", "calls"):
        screen.add_column(column, justify="right" if column == "frames" else "left", overflow="fold")
    for row in rows:
        calls = f"{row['calls']}, {_LOOPS[row['loop']]}" if row["calls"] > 1 else "1"
        screen.add_row(Text(row["layer"]), Text(row["reads"]), str(row["frames"]), calls)
    Console().print(screen)


def _print_limits(totals: dict[str, float], model: "CostModel", rules: "AllowedBits | None") -> None:
    """What the hardware target's limits leave of these bits, which a search lowers where they exceed one."""
    from bitsearch import text as formats
    from bitsearch.cost.budget import target_limits

    for limit in target_limits(model.target):
        metric, most = limit.metric, formats.cost(limit.metric, limit.limit, 4)
        if metric not in totals:
            continue
        line = f"{limit.requested}: {formats.title(metric)} {formats.cost(metric, totals[metric], 4)} of at most {most}"
        if totals[metric] > limit.limit:
            least = None if rules is None else model.cost(metric, rules.smallest(model))
            line += ", which a search meets with fewer bits"
            if least is not None and least > limit.limit:
                line = (
                    f"{line.rpartition(',')[0]}, which no bits meet: the fewest take {formats.cost(metric, least, 4)}"
                )
        Console().print(Text(line))


def _print(title: str, table: "pd.DataFrame", totals: dict[str, float], model: "CostModel") -> None:
    from bitsearch import text as formats

    console = Console()
    is_wide = console.width >= WIDE_COLUMNS
    metrics = [name for name in TABLE_METRICS if name in table][: None if is_wide else 2]
    counted = ("macs", "weights") if is_wide else ("macs",)
    screen = Table(title=f"{title} on {model.target.name}", title_justify="left")
    # Names of layers come first where there is little room: nothing else tells rows apart.
    membranes = ["m"] if table["membrane_bits"].astype(bool).any() else []
    first = ("layer", *(["shape"] if is_wide else []), "MACs", *(["weights"] if is_wide else []))
    for column in (*first, "w", "s", "T", *membranes):
        is_text = column in ("layer", "shape")
        screen.add_column(column, justify="left" if is_text else "right", no_wrap=column == "layer")
    for name in metrics:
        screen.add_column(formats.title(name).split(",")[0], justify="right")
        screen.add_column("%", justify="right")
    labels = formats.short_names(list(table["layer"]), WIDE_NAME if is_wide else NARROW_NAME)
    for label, row in zip(labels, table.to_dict("records"), strict=True):
        costs = []
        for name in metrics:
            costs += [formats.amount(name, row[name]), f"{100 * row[f'share.{name}']:.1f}"]
        spikes = row["spike_bits"].split()
        widths = (str(row["weight_bits"]), spikes[0] if len(set(spikes)) == 1 else ",".join(spikes))
        counts = [formats.number(row[name]) for name in counted]
        shape = [row["shape"]] if is_wide else []
        steps = (str(row["time_steps"]), *(str(row["membrane_bits"]) for _ in membranes))
        screen.add_row(Text(label), *shape, *counts, *widths, *steps, *costs)
    screen.add_section()
    counts = [formats.number(totals[name]) for name in counted]
    total_cells = [cell for name in metrics for cell in (formats.amount(name, totals[name]), "100")]
    screen.add_row(
        "total", *([""] if is_wide else []), *counts, "", "", "", *("" for _ in membranes), *total_cells, style="bold"
    )
    console.print(screen)
    for name, metric in model.metrics.items():
        if name in totals:
            console.print(f"{metric.title}: {formats.cost(name, totals[name], 4)}", highlight=False)
