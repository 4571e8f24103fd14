"""The page of a comparison: the table of its methods and their fronts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from bitsearch.plan import BitPlan, write_whole
from bitsearch.report import style
from bitsearch.report.format import MISSING, accuracy, amount, cost, plotly_text, shorten, title, unit, widths
from bitsearch.report.page import data_island, digest, environment, page_part, script
from bitsearch.report.plans_table import Cell
from bitsearch.report.verdict import hover_name
from bitsearch.search.compare import FULL_PRECISION, Comparison
from bitsearch.search.front import pareto_front, validation_accuracy

MOST_LAYERS_IN_HOVER = 16


@dataclass(frozen=True)
class ComparisonRow:
    """One method."""

    method: str
    cells: tuple[Cell, ...]


def comparison_table(found: Comparison) -> tuple[tuple[str, ...], list[ComparisonRow]]:
    """(titles of the columns, one row a method): accuracies and cost, mean ± standard deviation over the seeds."""
    settings, summary = found.runs[0].folder.settings, found.summary
    metric = settings.metric
    heads = ("validation", "test", title(metric), "training seconds", "seeds within the budget")
    budgeted = summary.loc[[name for name in found.methods if name != FULL_PRECISION]]
    best = {name: budgeted[(name, "mean")].max() for name in ("validation_accuracy", "test_accuracy")}
    rows = []
    for method in found.methods:

        def spread(name: str, write: Callable[[float], str], factor: float = 1.0, method: str = method) -> str:
            mean, std = (factor * float(summary[(name, part)][method]) for part in ("mean", "std"))
            if math.isnan(mean):
                return MISSING
            return write(mean) if math.isnan(std) else f"{write(mean)} ± {write(std)}"

        cells = []
        for name in ("validation_accuracy", "test_accuracy"):
            leads = method != FULL_PRECISION and summary[(name, "mean")][method] == best[name]
            cells.append(Cell(spread(name, "{:.2f}".format, 100), best=bool(leads)))
        cells.append(Cell(spread(metric, lambda value: amount(metric, value, 4))))
        cells.append(Cell(spread("seconds", "{:.1f}".format)))
        budgeted_seeds = sum(found.results["method"] == method)
        within = MISSING if method == FULL_PRECISION else f"{budgeted_seeds} of {len(found.runs)}"
        rows.append(ComparisonRow(method.replace("_", " "), (*cells, Cell(within))))
    return heads, rows


def fronts_figure(found: Comparison) -> go.Figure:
    """Every plan of every seed, and the front of each method over all seeds."""
    settings = found.runs[0].folder.settings
    metric = settings.metric
    figure = go.Figure(layout=style.layout(height=500, hovermode="closest"))
    for index, method in enumerate(name for name in found.methods if name != FULL_PRECISION):
        look = style.LOOKS[index % len(style.LOOKS)]
        plans = [plan for plan in found.plans(method) if plan.accuracy.validation is not None]
        front = pareto_front(plans, metric)
        name = plotly_text(method.replace("_", " "))
        figure.add_scatter(
            x=[plan.costs[metric] for plan in front],
            y=[100 * validation_accuracy(plan) for plan in front],
            mode="lines",
            line={"color": look["color"], "width": 2, "shape": "hv"},
            legendgroup=method,
            showlegend=False,
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=[plan.costs[metric] for plan in plans],
            y=[100 * validation_accuracy(plan) for plan in plans],
            mode="markers",
            marker={**look, "size": 9, "opacity": 0.8},
            name=name,
            legendgroup=method,
            hovertext=[_hover(plan, metric) for plan in plans],
            hoverinfo="text",
        )
    limit = settings.limits.get(metric)
    if limit is not None:
        figure.add_vline(x=limit.limit, line={"color": style.PURPLE, "dash": "dash"}, layer="below")
    figure.update_yaxes(style.AXIS | {"ticksuffix": " %", "title_text": "Validation accuracy"})
    label = f"{title(metric)} ({unit(metric)})" if unit(metric) else title(metric)
    figure.update_xaxes(style.AXIS | {"title_text": plotly_text(label)})
    figure.update_layout(legend=style.LEGEND)
    return figure


def _hover(plan: BitPlan, metric: str) -> str:
    """What it is, accuracies, cost and one line of bits a layer."""
    lines = [
        f"validation {accuracy(plan.accuracy.validation)}, test {accuracy(plan.accuracy.test)}",
        f"{title(metric)}: {cost(metric, plan.costs[metric], 4)}",
        *(f"{shorten(layer, 40)}  {widths(bits)}" for layer, bits in list(plan.layers.items())[:MOST_LAYERS_IN_HOVER]),
    ]
    if len(plan.layers) > MOST_LAYERS_IN_HOVER:
        lines.append(f"… and {len(plan.layers) - MOST_LAYERS_IN_HOVER} layers more")
    return "<br>".join([hover_name(plan, several_seeds=True), *(plotly_text(shorten(line, 120)) for line in lines)])


def write_comparison(found: Comparison) -> Path:
    """Write ``comparison.html``, one file that needs nothing else, and return its path."""
    heads, rows = comparison_table(found)
    scripts = {"plotly": script(get_plotlyjs()), "page": script(page_part("comparison.js"))}
    path = found.path / "comparison.html"
    page = (
        environment()
        .get_template("comparison.html.jinja")
        .render(
            settings=found.runs[0].folder.settings,
            seeds=len(found.runs),
            heads=heads,
            rows=rows,
            style=Markup(page_part("page.css")),  # nosec B704
            scripts=scripts,
            policy=" ".join(f"'{digest(source)}'" for source in scripts.values()),
            figure=data_island(fronts_figure(found)),
        )
    )
    write_whole(path, page)
    return path
