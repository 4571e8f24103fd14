"""The page of a comparison: the table of its methods and their fronts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from bitsearch.files import write_whole
from bitsearch.plan import Accuracy, BitPlan
from bitsearch.report import style
from bitsearch.report.front_figure import View, accuracy_ranges, method_name, view_over
from bitsearch.report.page import data_island, digest, environment, page_part, script
from bitsearch.report.plans_table import Cell
from bitsearch.report.verdict import hover_name
from bitsearch.runs.pareto import pareto_front, validation_accuracy
from bitsearch.study.analysis import Spread, spreads
from bitsearch.study.compare import FULL_PRECISION, Comparison
from bitsearch.text import MISSING, accuracy, amount, cost, plotly_text, shorten, title, widths

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
    """Every plan of every seed, each method's front over all of them, and the mean of each seed's best, with bars."""
    settings, metric = found.runs[0].folder.settings, found.runs[0].folder.settings.metric
    searched = [method for method in found.methods if method != FULL_PRECISION]
    plans = {method: [one for one in found.plans(method) if one.accuracy.validation is not None] for method in searched}
    means = {one.method: one for one in spreads([plan for own in plans.values() for plan in own], metric)}
    shares = [share for run in found.runs if (share := run.folder.settings.full_precision.validation) is not None]
    reference = Accuracy(validation=sum(shares) / len(shares) if shares else None)
    every = [plan for own in plans.values() for plan in own]
    settings = settings.model_copy(update={"full_precision": reference})
    view = view_over(every, metric, settings, [])
    traces: list[go.Scatter] = []
    for index, (method, own) in enumerate(plans.items()):
        look = style.LOOKS[index % len(style.LOOKS)]
        traces += _points(method, own, look, metric, view)
        if method in means:
            traces.append(_mean(means[method], look, metric, view))
    layout = style.layout(
        height=500,
        hovermode="closest",
        legend=style.LEGEND,
        xaxis=style.axis(view.title, tickformat=",~g"),
        yaxis=style.axis("Validation accuracy", ticksuffix=" %", range=accuracy_ranges(every, settings)["all"]),
    )
    return go.Figure(traces, layout | view.axis("log"))


def _points(
    method: str, plans: Sequence[BitPlan], look: Mapping[str, str], metric: str, view: View
) -> tuple[go.Scatter, go.Scatter]:
    """(line of the front, the plans, those off the front faded)."""
    front = pareto_front(plans, metric)
    on_front = {id(plan) for plan in front}
    line = go.Scatter(
        x=[plan.costs[metric] / view.scale.factor for plan in front],
        y=[100 * validation_accuracy(plan) for plan in front],
        mode="lines",
        line={"color": look["color"], "width": 2, "shape": "hv"},
        legendgroup=method,
        showlegend=False,
        hoverinfo="skip",
    )
    points = go.Scatter(
        x=[plan.costs[metric] / view.scale.factor for plan in plans],
        y=[100 * validation_accuracy(plan) for plan in plans],
        mode="markers",
        marker={**look, "size": 9},
        selectedpoints=[place for place, plan in enumerate(plans) if id(plan) in on_front],
        unselected={"marker": {"opacity": style.FADED}},
        name=method_name(method),
        legendgroup=method,
        hovertext=[_hover(plan, metric) for plan in plans],
        hoverinfo="text",
    )
    return line, points


def _mean(one: Spread, look: Mapping[str, str], metric: str, view: View) -> go.Scatter:
    bars = {"thickness": 2, "width": 6, "color": look["color"]}
    (reached, deviation), (spent, around) = one.accuracy, one.costs[metric]
    words = [
        f"{method_name(one.method)}, mean ± s.d. of the best of {one.seeds} seeds",
        f"validation {100 * reached:.2f} ± {100 * deviation:.2f} %",
        plotly_text(f"{title(metric)}: {cost(metric, spent, 4)} ± {cost(metric, around, 2)}"),
    ]
    return go.Scatter(
        x=[spent / view.scale.factor],
        y=[100 * reached],
        error_x={"array": [around / view.scale.factor], **bars},
        error_y={"array": [100 * deviation], **bars},
        mode="markers",
        marker={**look, "size": 15, "line": {"width": 2, "color": style.EDGE}},
        legendgroup=one.method,
        showlegend=False,
        hovertext="<br>".join(words),
        hoverinfo="text",
    )


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
