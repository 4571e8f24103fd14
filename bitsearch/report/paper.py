"""Figures and tables of a run for papers: sizes and fonts of a two-column page, drawn by matplotlib."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bitsearch.errors import InputError
from bitsearch.files import write_whole
from bitsearch.plan import BitPlan
from bitsearch.report import style
from bitsearch.report.front_figure import methods
from bitsearch.report.history import histories
from bitsearch.report.plans_table import plans_table, shown_metrics
from bitsearch.report.trial_details import curves
from bitsearch.runs.folder import RunFolder, RunSettings
from bitsearch.runs.pareto import best_plan, pareto_front, validation_accuracy
from bitsearch.text import MISSING, SPACE, Scale, scale, shorten, title

FORMATS = ("pdf", "svg", "png")
COLUMN = 3.5
"""Inches: one column of a two-column page."""
DPI = 600
_MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "pentagon": "p",
    "hexagon": "h",
}
_STYLE: Any = {
    "font.size": 8,
    "font.family": "sans-serif",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 7,
    # Text that a reader can select and search, and no random names inside.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "bitsearch",
    # Names of layers and methods are no formulas.
    "text.parse_math": False,
}


def parse_formats(text: str) -> list[str]:
    """``pdf,svg`` as a list; InputError for any other format."""
    found = [part.strip().lower() for part in text.split(",") if part.strip()]
    wrong = [part for part in found if part not in FORMATS]
    if wrong or not found:
        raise InputError(f"--figures is {text!r}; give some of {', '.join(FORMATS)}, separated by commas")
    return list(dict.fromkeys(found))


def write_paper(folder: RunFolder, formats: Sequence[str]) -> list[Path]:
    """Write ``figures/`` of a run: the front, the chosen plan, the front's bits, its curves, and the table of plans.

    Returns:
        The files' paths. Curves are left out where the run logged none.

    Raises:
        InputError: no plan meets the budget yet, or a file cannot be written.
    """
    settings, plans = folder.settings, folder.plans()
    chosen = best_plan(plans, settings.metric) or folder.chosen()
    target = folder.path / "figures"
    names = shown_metrics(settings, list(chosen.costs))
    table = plans_table(plans, chosen, settings, names)
    drawings: dict[str, Callable[[], Figure]] = {
        "front": lambda: front(plans, chosen, settings),
        "plan": lambda: plan_bars(chosen),
        "bits": lambda: front_bits(pareto_front(plans, settings.metric)),
    }
    own = histories(folder.log()).get(chosen.provenance.trial)
    if own is not None and own.epochs:
        lines = curves(own)["lines"]
        drawings["curves"] = lambda: epochs(lines)
    written = []
    try:
        target.mkdir(exist_ok=True)
        with mpl.rc_context(_STYLE):
            for name, draw in drawings.items():
                figure = draw()
                for kind in formats:
                    written.append(target / f"{name}.{kind}")
                    dated = {"pdf": "CreationDate", "svg": "Date"}
                    metadata = {dated[kind]: None} if kind in dated else None
                    figure.savefig(written[-1], dpi=DPI, metadata=metadata)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from error
    rows = [[row.label, *(cell.text for cell in row.cells)] for row in table.rows]
    heads = ["Plan", *(f"{name} ({unit})" if unit else name for name, unit in table.columns)]
    for name, text in (("table.tex", latex(heads, rows)), ("table.md", markdown(heads, rows))):
        written.append(target / name)
        write_whole(written[-1], text)
    return written


def front(plans: Sequence[BitPlan], chosen: BitPlan, settings: RunSettings) -> Figure:
    """Accuracy against the run's cost."""
    metric = settings.metric
    measured = [plan for plan in plans if plan.accuracy.validation is not None]
    own = scale(metric, (plan.costs[metric] for plan in measured))
    best = pareto_front(measured, metric)
    figure, axes = _axes(COLUMN, 2.6)
    axes.step(*_points(best, metric, own), where="post", color=style.GREEN, linewidth=1.2, label="Pareto front")
    for number, method in enumerate(methods(plans)):
        look = style.LOOKS[number % len(style.LOOKS)]
        mine = [plan for plan in measured if plan.provenance.method == method]
        on = {id(plan) for plan in best}
        mark: dict[str, Any] = {"marker": _MARKERS[look["symbol"]], "s": 14, "color": look["color"], "linewidths": 0}
        axes.scatter(*_points([p for p in mine if id(p) not in on], metric, own), alpha=style.FADED, **mark)
        axes.scatter(*_points([p for p in mine if id(p) in on], metric, own), label=shorten(method, 24), **mark)
    star: dict[str, Any] = {
        "marker": "*",
        "s": 90,
        "color": style.ORANGE,
        "edgecolors": style.EDGE,
        "linewidths": 0.6,
        "zorder": 4,
    }
    axes.scatter(*_points([chosen], metric, own), label="chosen", **star)
    if metric in settings.limits:
        limit = settings.limits[metric]
        name = "hardware limit" if limit.of_target else f"budget {shorten(limit.requested, 16)}"
        axes.axvline(limit.limit / own.factor, color=style.PURPLE, linewidth=1, linestyle="--", label=name)
    if settings.full_precision.validation is not None:
        level = 100 * settings.full_precision.validation
        axes.axhline(level, color=style.GREY, linewidth=0.8, linestyle="-.", label="full precision")
    if all(plan.costs[metric] > 0 for plan in measured):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.tick_params(axis="x", which="minor", labelsize=6)
    axes.set_xlabel(f"{title(metric)} ({own.unit})" if own.unit else title(metric))
    axes.set_ylabel("Validation accuracy (%)")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def plan_bars(plan: BitPlan) -> Figure:
    """Weight bits, mean spike bits and time steps of every layer."""
    layers = list(plan.layers.values())
    figure, axes = _axes(COLUMN if len(layers) <= 16 else 2 * COLUMN, 2.0)
    kinds: tuple[tuple[str, str, str, list[float]], ...] = (
        ("weight bits", style.BLUE, "", [layer.weight_bits for layer in layers]),
        ("spike bits (mean)", style.VERMILION, "///", [layer.mean_spike_bits for layer in layers]),
        ("time steps", style.GREEN, "...", [layer.time_steps for layer in layers]),
    )
    for number, (name, colour, hatch, values) in enumerate(kinds):
        places = [index + (number - 1) * 0.27 for index in range(len(layers))]
        axes.bar(places, values, width=0.25, label=name, color=colour, hatch=hatch, edgecolor="white", linewidth=0.3)
    every = max(1, len(layers) // 40 + 1)
    labels = [shorten(name, 14) for name in plan.layers][::every]
    axes.set_xticks(range(0, len(layers), every), labels, rotation=90 if len(layers) > 6 else 0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 1.3 * max(max(values) for _, _, _, values in kinds))
    axes.legend(ncols=3, loc="upper center")
    return figure


def front_bits(plans: Sequence[BitPlan]) -> Figure:
    """Weight bits, layer by plan of the front, cheapest first."""
    names = list(plans[0].layers)
    figure, axes = _axes(COLUMN, min(max(0.13 * len(names) + 0.8, 1.6), 8))
    rows = [
        [plan.layers[name].weight_bits if name in plan.layers else float("nan") for plan in plans] for name in names
    ]
    image = axes.imshow(rows, aspect="auto", cmap="cividis", vmin=1, vmax=8, interpolation="nearest")
    every = max(1, len(names) // 50 + 1)
    axes.set_yticks(range(0, len(names), every), [shorten(name, 18) for name in names][::every], fontsize=6)
    every = max(1, len(plans) // 12 + 1)
    axes.set_xticks(range(0, len(plans), every), [str(place + 1) for place in range(0, len(plans), every)])
    axes.set_xlabel("plans of the front, cheapest first")
    figure.colorbar(image, label="weight bits", pad=0.02)
    return figure


def epochs(lines: dict[str, list[float | None]]) -> Figure:
    """Loss, and mean bits and time steps, over the epochs of the chosen trial."""
    with_bits = any(value is not None for value in lines["mean_weight_bits"])
    figure = Figure(figsize=(COLUMN, 2.6 if with_bits else 1.6), layout="constrained")
    panels = figure.subplots(2 if with_bits else 1, 1, sharex=True, squeeze=False)[:, 0]
    x = range(1, len(lines["loss"]) + 1)
    _line(panels[0], x, lines["loss"], "training loss", style.BLACK, "o")
    panels[0].set_ylabel("Loss")
    if with_bits:
        _line(panels[1], x, lines["mean_weight_bits"], "weight bits", style.BLUE, "o")
        _line(panels[1], x, lines["mean_spike_bits"], "spike bits", style.VERMILION, "s")
        _line(panels[1], x, lines["mean_time_steps"], "time steps", style.GREEN, "h")
        panels[1].set_ylabel("Mean")
        panels[1].legend(ncols=3)
    panels[-1].set_xlabel("Epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def latex(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A booktabs table, without what pdfLaTeX has no letters for."""

    def plain(text: str) -> str:
        # Macrons over letters are combining characters.
        return text.replace(" W̄·S̄·T̄", "").replace(SPACE, " ").replace(MISSING, "--").replace("×", "x")

    table = pd.DataFrame([[plain(cell) for cell in row] for row in rows], columns=[plain(head) for head in heads])
    text: str = table.to_latex(index=False, escape=True, column_format="l" + "r" * (len(heads) - 1))
    return text


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; bars and tags in names stay text."""

    def line(cells: Sequence[str]) -> str:
        safe = (
            cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") for cell in cells
        )
        return f"| {' | '.join(safe)} |"

    rule = f"|---|{'---:|' * (len(heads) - 1)}"
    return "\n".join([line(heads), rule, *(line(row) for row in rows)]) + "\n"


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _points(plans: Sequence[BitPlan], metric: str, own: Scale) -> tuple[list[float], list[float]]:
    return [plan.costs[metric] / own.factor for plan in plans], [100 * validation_accuracy(plan) for plan in plans]


def _line(axes: Axes, x: Sequence[int], values: Sequence[float | None], name: str, colour: str, mark: str) -> None:
    known = [float("nan") if value is None else value for value in values]
    axes.plot(x, known, color=colour, marker=mark, markersize=2.5, linewidth=1, label=name)
