"""Figures and tables of a run for papers: sizes and fonts of a two-column page, drawn by matplotlib."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from bitsearch.errors import InputError
from bitsearch.files import write_whole
from bitsearch.plan import BitPlan
from bitsearch.report import style
from bitsearch.report.front_figure import methods
from bitsearch.report.history import histories
from bitsearch.report.plans_table import Row, plans_table, table_metrics
from bitsearch.report.trial_details import curves
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.one_standard_error import cheapest_within_one_standard_error
from bitsearch.runs.pareto import best_plan, pareto_front, validation_score
from bitsearch.runs.run_settings import RunSettings
from bitsearch.text import MISSING, SPACE, Scale, percent, scale, score_axis, short_names, shorten, title

FORMATS = ("pdf", "svg", "png")
COLUMN_INCHES = 3.5
"""Width of a column of a two-column page."""
DPI = 600
"""Dots per inch of an image."""
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
    """The formats of a text such as ``pdf,svg``; InputError for an unknown format."""
    formats = [part.strip().lower() for part in text.split(",") if part.strip()]
    unknown_formats = [part for part in formats if part not in FORMATS]
    if unknown_formats or not formats:
        raise InputError(f"--figures is {text!r}; give some of {', '.join(FORMATS)}, separated by commas")
    return list(dict.fromkeys(formats))


def write_paper(folder: RunFolder, formats: Sequence[str]) -> list[Path]:
    """Write ``figures/`` of a run: the front, the chosen plan, the front's bits, its curves, and the table of plans.

    Returns:
        The files' paths. Curves are left out where the run logged none.

    Raises:
        InputError: no plan meets the budget yet, or a file cannot be written.
    """
    settings, plans = folder.settings, folder.plans()
    chosen_plan = best_plan(plans, settings.metric) or folder.chosen()
    figures_folder = folder.path / "figures"
    names = table_metrics(settings, list(chosen_plan.costs))
    within = cheapest_within_one_standard_error(folder)
    table = plans_table(plans, chosen_plan, settings, names, within)
    drawings: dict[str, Callable[[], Figure]] = {
        "front": lambda: front(plans, chosen_plan, settings, within),
        "plan": lambda: plan_bars(chosen_plan),
        "bits": lambda: front_bits(pareto_front(plans, settings.metric)),
    }
    history = histories(folder.log()).get(chosen_plan.provenance.trial)
    if history is not None and history.epochs:
        lines = curves(history)["lines"]
        drawings["curves"] = lambda: epochs(lines)
    files = []
    try:
        figures_folder.mkdir(exist_ok=True)
        with mpl.rc_context(_STYLE):
            for name, draw in drawings.items():
                figure = draw()
                for kind in formats:
                    files.append(figures_folder / f"{name}.{kind}")
                    date_keys = {"pdf": "CreationDate", "svg": "Date"}
                    metadata = {date_keys[kind]: None} if kind in date_keys else None
                    figure.savefig(files[-1], dpi=DPI, metadata=metadata)
    except OSError as error:
        raise InputError(f"cannot write {figures_folder}: {error.strerror or error}") from error
    rows = [[_label(row), row.bits, *(cell.text for cell in row.cells)] for row in table.rows]
    titles = ["Plan", "Bits", *(f"{name} ({unit})" if unit else name for name, unit in table.columns)]
    for name, text in (("table.tex", latex(titles, rows)), ("table.md", markdown(titles, rows))):
        files.append(figures_folder / name)
        write_whole(files[-1], text)
    return files


def _label(row: Row) -> str:
    return f"{row.label} (chosen)" if row.chosen else row.label


def front_svg(plans: Sequence[BitPlan], chosen_plan: BitPlan, settings: RunSettings, within: BitPlan | None) -> str:
    """:func:`front` as an SVG element, to stand inside of a page."""
    drawn = io.StringIO()
    with mpl.rc_context(_STYLE):
        # Tight: a page cuts off what stands outside of the element.
        figure = front(plans, chosen_plan, settings, within)
        figure.savefig(drawn, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = drawn.getvalue()
    return text[text.index("<svg") :]


def front(
    plans: Sequence[BitPlan], chosen_plan: BitPlan, settings: RunSettings, within: BitPlan | None = None
) -> Figure:
    """Accuracy against the run's cost; ``within``, the cheapest plan within one standard error, gets a ring."""
    metric = settings.metric
    measured = [plan for plan in plans if plan.measured.validation is not None]
    cost_scale = scale(metric, (plan.costs[metric] for plan in measured))
    front_plans = pareto_front(measured, metric)
    figure, axes = _axes(COLUMN_INCHES, 2.6)
    x, y = _points(front_plans, metric, cost_scale)
    axes.step(x, y, where="post", color=style.GREEN, linewidth=1.2, label="Pareto front")
    for number, method in enumerate(methods(plans)):
        colour_and_symbol = style.LOOKS[number % len(style.LOOKS)]
        method_plans = [plan for plan in measured if plan.provenance.method == method]
        front_ids = {id(plan) for plan in front_plans}
        colour, symbol = colour_and_symbol["color"], _MARKERS[colour_and_symbol["symbol"]]
        marker: dict[str, Any] = {"marker": symbol, "color": colour, "linewidths": 0}
        dominated = [plan for plan in method_plans if id(plan) not in front_ids]
        non_dominated = [plan for plan in method_plans if id(plan) in front_ids]
        axes.scatter(*_points(dominated, metric, cost_scale), s=5, **marker)
        axes.scatter(*_points(non_dominated, metric, cost_scale), s=16, label=shorten(method, 24), **marker)
    star: dict[str, Any] = {
        "marker": "*",
        "s": 90,
        "color": style.GOLD,
        "edgecolors": style.EDGE,
        "linewidths": 0.6,
        "zorder": 4,
    }
    if within is not None and within != chosen_plan:
        ring: dict[str, Any] = {"s": 60, "facecolors": "none", "edgecolors": style.ORANGE, "linewidths": 1.2}
        axes.scatter(*_points([within], metric, cost_scale), label="within 1 SE", **ring)
    axes.scatter(*_points([chosen_plan], metric, cost_scale), label="chosen", **star)
    if metric in settings.limits:
        limit = settings.limits[metric]
        name = "hardware limit" if limit.of_target else f"budget {shorten(limit.requested, 16)}"
        axes.axvline(limit.limit / cost_scale.factor, color=style.PURPLE, linewidth=1, linestyle="--", label=name)
    if settings.full_precision.validation is not None:
        level = percent(settings.score) * settings.full_precision.validation
        axes.axhline(level, color=style.GREY, linewidth=0.8, linestyle="-.", label="full precision")
    if all(plan.costs[metric] > 0 for plan in measured):
        axes.set_xscale("log")
        costs = [plan.costs[metric] for plan in measured]
        # Where costs span no power of ten, ticks at equal distances; else at 1, 2 and 5 times each.
        narrow = max(costs) < 10 * min(costs)
        axes.xaxis.set_major_locator(MaxNLocator(6) if narrow else LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"{title(metric)} ({cost_scale.unit})" if cost_scale.unit else title(metric))
    axes.set_ylabel(score_axis(settings.score) + (" (%)" if settings.score.share else ""))
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def plan_bars(plan: BitPlan) -> Figure:
    """Weight bits, mean spike bits and time steps of every layer."""
    layers = list(plan.layers.values())
    figure, axes = _axes(COLUMN_INCHES if len(layers) <= 16 else 2 * COLUMN_INCHES, 2.0)
    kinds: tuple[tuple[str, str, str, list[float]], ...] = (
        ("weight bits", style.BLUE, "", [layer.weight_bits for layer in layers]),
        ("spike bits (mean)", style.VERMILION, "///", [layer.mean_spike_bits for layer in layers]),
        ("time steps", style.GREEN, "...", [layer.time_steps for layer in layers]),
    )
    for number, (name, colour, hatch, values) in enumerate(kinds):
        positions = [index + (number - 1) * 0.27 for index in range(len(layers))]
        axes.bar(positions, values, width=0.25, label=name, color=colour, hatch=hatch, edgecolor="white", linewidth=0.3)
    tick_step = max(1, len(layers) // 40 + 1)
    labels = short_names(list(plan.layers), 14)[::tick_step]
    axes.set_xticks(range(0, len(layers), tick_step), labels, rotation=90 if len(layers) > 6 else 0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0, 1.3 * max(max(values) for _, _, _, values in kinds))
    axes.legend(ncols=3, loc="upper center")
    return figure


def front_bits(plans: Sequence[BitPlan]) -> Figure:
    """Weight bits, layer by plan of the front, cheapest first."""
    names = list(plans[0].layers)
    figure, axes = _axes(COLUMN_INCHES, min(max(0.13 * len(names) + 0.8, 1.6), 8))
    rows = [
        [plan.layers[name].weight_bits if name in plan.layers else float("nan") for plan in plans] for name in names
    ]
    image = axes.imshow(rows, aspect="auto", cmap="cividis", vmin=1, vmax=8, interpolation="nearest")
    tick_step = max(1, len(names) // 50 + 1)
    axes.set_yticks(range(0, len(names), tick_step), short_names(names, 18)[::tick_step], fontsize=6)
    tick_step = max(1, len(plans) // 12 + 1)
    axes.set_xticks(range(0, len(plans), tick_step), [str(index + 1) for index in range(0, len(plans), tick_step)])
    axes.set_xlabel("plans of the front, cheapest first")
    figure.colorbar(image, label="weight bits", pad=0.02)
    return figure


def epochs(lines: dict[str, list[float | None]]) -> Figure:
    """Loss, and mean bits and time steps, over the epochs of the chosen trial."""
    has_bits = any(value is not None for value in lines["mean_weight_bits"])
    figure = Figure(figsize=(COLUMN_INCHES, 2.6 if has_bits else 1.6), layout="constrained")
    panels = figure.subplots(2 if has_bits else 1, 1, sharex=True, squeeze=False)[:, 0]
    x = range(1, len(lines["loss"]) + 1)
    _line(panels[0], x, lines["loss"], "training loss", style.SLATE, "o")
    panels[0].set_ylabel("Loss")
    if has_bits:
        _line(panels[1], x, lines["mean_weight_bits"], "weight bits", style.BLUE, "o")
        _line(panels[1], x, lines["mean_spike_bits"], "spike bits", style.VERMILION, "s")
        _line(panels[1], x, lines["mean_time_steps"], "time steps", style.GREEN, "h")
        panels[1].set_ylabel("Mean")
        panels[1].legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), borderaxespad=0)
    panels[-1].set_xlabel("Epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def latex(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A booktabs table, without the characters that pdfLaTeX lacks."""

    def plain_text(text: str) -> str:
        # Macrons over letters are combining characters.
        return text.replace(" W̄·S̄·T̄", "").replace(SPACE, " ").replace(MISSING, "--").replace("×", "x")

    columns = [plain_text(column) for column in titles]
    table = pd.DataFrame([[plain_text(cell) for cell in row] for row in rows], columns=columns)
    text: str = table.to_latex(index=False, escape=True, column_format="l" + "r" * (len(titles) - 1))
    return text


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; bars and tags in names are escaped."""

    def line(cells: Sequence[str]) -> str:
        escaped_cells = (
            cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") for cell in cells
        )
        return f"| {' | '.join(escaped_cells)} |"

    separator = f"|---|{'---:|' * (len(titles) - 1)}"
    return "\n".join([line(titles), separator, *(line(row) for row in rows)]) + "\n"


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _points(plans: Sequence[BitPlan], metric: str, cost_scale: Scale) -> tuple[list[float], list[float]]:
    costs = [plan.costs[metric] / cost_scale.factor for plan in plans]
    return costs, [percent(plan.measured.score) * validation_score(plan) for plan in plans]


def _line(axes: Axes, x: Sequence[int], values: Sequence[float | None], name: str, colour: str, symbol: str) -> None:
    numbers = [float("nan") if value is None else value for value in values]
    axes.plot(x, numbers, color=colour, marker=symbol, markersize=2.5, linewidth=1, label=name)
