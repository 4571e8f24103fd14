"""The page of a comparison: the table of its methods and their fronts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import plotly.graph_objects as go
from markupsafe import Markup

from bitsearch.files import write_whole
from bitsearch.plan import BitPlan
from bitsearch.report import style
from bitsearch.report.front_axes import View, accuracy_ranges, score_style, view_over
from bitsearch.report.front_figure import method_name
from bitsearch.report.page import PLAIN_SCRIPTS, data_island, environment, packed_plotly, page_part, policy, script
from bitsearch.report.plans_table import Cell
from bitsearch.runs.pareto import pareto_front, score_column, validation_score
from bitsearch.runs.plan_names import hover_name
from bitsearch.score import Score
from bitsearch.study.analysis import Spread, spreads
from bitsearch.study.compare import FULL_PRECISION, Comparison
from bitsearch.text import MISSING, cost, measured_text, percent, plotly_text, scale, shorten, spread, title

MAX_HOVER_LAYERS = 16
"""Number of layers that a hover text lists at most."""


@dataclass(frozen=True)
class ComparisonRow:
    """The row of one method."""

    method: str
    cells: tuple[Cell, ...]


def comparison_table(comparison: Comparison) -> tuple[tuple[str, ...], list[ComparisonRow]]:
    """(column titles, one row a method): scores and cost, mean ± standard deviation over seeds; titles have units."""
    settings, summary = comparison.runs[0].folder.settings, comparison.summary
    metric, score = settings.metric, settings.score
    names = tuple(score_column(score, split) for split in ("validation", "test"))
    budgeted = summary.loc[[name for name in comparison.methods if name != FULL_PRECISION]]
    best = {name: getattr(budgeted[(name, "mean")], "max" if score.direction == "up" else "min")() for name in names}
    costs = scale(metric, [value for value in budgeted[(metric, "mean")] if not math.isnan(value)])
    whole_seconds = budgeted[("seconds", "mean")].max() >= 10
    columns = {
        **dict.fromkeys(names, lambda mean, deviation: _score_spread(mean, deviation, score)),
        metric: costs.spread,
        "seconds": lambda mean, deviation: spread(mean, deviation, 0 if whole_seconds else 1),
    }
    rows = []
    for method in comparison.methods:
        cells = []
        for name, written in columns.items():
            mean, deviation = (float(summary[(name, part)][method]) for part in ("mean", "std"))
            is_best = name in best and method != FULL_PRECISION and mean == best[name]
            text = MISSING if math.isnan(mean) else written(mean, None if math.isnan(deviation) else deviation)
            cells.append(Cell(text, best=bool(is_best)))
        budgeted_seeds = sum(comparison.results["method"] == method)
        budgeted_text = MISSING if method == FULL_PRECISION else f"{budgeted_seeds} of {len(comparison.runs)}"
        rows.append(ComparisonRow(method.replace("_", " "), (*cells, Cell(budgeted_text))))
    if FULL_PRECISION not in comparison.methods:
        rows.append(_full_precision_row(comparison))
    score_unit = "%" if score.share else score.unit
    heads = [_head("validation", score_unit), _head("test", score_unit), _head(title(metric), costs.unit)]
    return (*heads, "training seconds", "seeds within the budget"), rows


def _head(name: str, unit: str) -> str:
    return f"{name} in {unit}" if unit else name


def _score_spread(mean: float, deviation: float | None, score: Score) -> str:
    """``97.78 ± 1.18``, in percent of a share."""
    if score.share:
        return spread(100 * mean, None if deviation is None else 100 * deviation, 2)
    return f"{mean:.4g}" if deviation is None else f"{mean:.4g} ± {deviation:.2g}"


def _full_precision_row(comparison: Comparison) -> ComparisonRow:
    """What the plans are measured against, where it was not compared as a method of its own."""
    references = [run.folder.settings.full_precision for run in comparison.runs]
    score = comparison.runs[0].folder.settings.score
    cells = []
    for values in ([each.validation for each in references], [each.test for each in references]):
        scores = [value for value in values if value is not None]
        deviation = stdev(scores) if len(scores) > 1 else None
        cells.append(Cell(_score_spread(fmean(scores), deviation, score) if scores else MISSING))
    return ComparisonRow(FULL_PRECISION.replace("_", " "), (*cells, *[Cell(MISSING)] * 3))


def fronts_figure(comparison: Comparison) -> go.Figure:
    """All plans of all seeds, each method's front over the seeds, and the seeds' best plans on average."""
    settings, metric = comparison.runs[0].folder.settings, comparison.runs[0].folder.settings.metric
    searched_methods = [method for method in comparison.methods if method != FULL_PRECISION]
    plans_by_method = {
        method: [plan for plan in comparison.plans(method) if plan.measured.validation is not None]
        for method in searched_methods
    }
    all_plans = [plan for method_plans in plans_by_method.values() for plan in method_plans]
    means = {spread.method: spread for spread in spreads(all_plans, metric)}
    accuracies = [run.folder.settings.full_precision.validation for run in comparison.runs]
    measured = [share for share in accuracies if share is not None]
    reference = settings.full_precision.model_copy(
        update={"validation": sum(measured) / len(measured) if measured else None}
    )
    settings = settings.model_copy(update={"full_precision": reference})
    view = view_over(all_plans, metric, settings, list(means.values()))
    traces: list[go.Scatter] = []
    for index, (method, method_plans) in enumerate(plans_by_method.items()):
        marker = style.LOOKS[index % len(style.LOOKS)]
        traces += _points(method, method_plans, marker, metric, view)
        if method in means:
            traces.append(_mean(means[method], marker, metric, view))
    layout = style.layout(
        height=500,
        hovermode="closest",
        legend=style.LEGEND,
        xaxis=style.axis(view.title, tickformat=",~g"),
        yaxis=score_style(settings.score, accuracy_ranges(all_plans, settings, list(means.values()))["all"]),
    )
    return go.Figure(traces, layout | view.axis("log"))


def _points(
    method: str, plans: Sequence[BitPlan], marker: Mapping[str, str], metric: str, view: View
) -> tuple[go.Scatter, go.Scatter]:
    """(line of the front, points of the plans); points off the front are small."""
    front = pareto_front(plans, metric)
    on_front = {id(plan) for plan in front}
    line = go.Scatter(
        x=[plan.costs[metric] / view.scale.factor for plan in front],
        y=[percent(plan.measured.score) * validation_score(plan) for plan in front],
        mode="lines",
        line={"color": marker["color"], "width": 2, "shape": "hv"},
        legendgroup=method,
        showlegend=False,
        hoverinfo="skip",
    )
    points = go.Scatter(
        x=[plan.costs[metric] / view.scale.factor for plan in plans],
        y=[percent(plan.measured.score) * validation_score(plan) for plan in plans],
        mode="markers",
        marker={**marker, "size": style.POINT},
        selectedpoints=[index for index, plan in enumerate(plans) if id(plan) in on_front],
        unselected={"marker": {"size": style.DOMINATED, "opacity": 1}},
        name=method_name(method),
        legendgroup=method,
        hovertext=[_hover(plan, metric) for plan in plans],
        hoverinfo="text",
    )
    return line, points


def _mean(spread: Spread, marker: Mapping[str, str], metric: str, view: View) -> go.Scatter:
    bars = {"thickness": 2, "width": 6, "color": marker["color"]}
    (mean_cost, cost_deviation) = spread.costs[metric]
    mean_score, score_deviation = (spread.factor * number for number in spread.score)
    hover_lines = [
        f"{method_name(spread.method)}, mean ± s.d. of the best of {spread.seeds} seeds",
        f"validation {mean_score:.2f} ± {score_deviation:.2f} %"
        if spread.factor == 100
        else f"validation {mean_score:.4g} ± {score_deviation:.2g}",
        plotly_text(f"{title(metric)}: {cost(metric, mean_cost, 4)} ± {cost(metric, cost_deviation, 2)}"),
    ]
    return go.Scatter(
        x=[mean_cost / view.scale.factor],
        y=[mean_score],
        error_x={"array": [cost_deviation / view.scale.factor], **bars},
        error_y={"array": [score_deviation], **bars},
        mode="markers",
        marker={**marker, "size": 15, "line": {"width": 2, "color": style.EDGE}},
        legendgroup=spread.method,
        showlegend=False,
        hovertext="<br>".join(hover_lines),
        hoverinfo="text",
    )


def _hover(plan: BitPlan, metric: str) -> str:
    """Hover text of a plan: name, accuracies, cost, and one line of bits a layer."""
    lines = [
        f"validation {measured_text(plan, 'validation')}, test {measured_text(plan, 'test')}",
        f"{title(metric)}: {cost(metric, plan.costs[metric], 4)}",
        *(f"{shorten(layer, 90)}  {bits}" for layer, bits in list(plan.layers.items())[:MAX_HOVER_LAYERS]),
    ]
    if len(plan.layers) > MAX_HOVER_LAYERS:
        lines.append(f"… and {len(plan.layers) - MAX_HOVER_LAYERS} layers more")
    return "<br>".join([hover_name(plan, several_seeds=True), *(plotly_text(shorten(line, 120)) for line in lines)])


def write_comparison(comparison: Comparison) -> Path:
    """Write ``comparison.html``, one file that needs nothing else, and return its path."""
    titles, rows = comparison_table(comparison)
    source = script("".join(map(page_part, PLAIN_SCRIPTS)))
    path = comparison.path / "comparison.html"
    page = (
        environment()
        .get_template("comparison.html.jinja")
        .render(
            settings=comparison.runs[0].folder.settings,
            score=comparison.runs[0].folder.settings.score,
            seeds=len(comparison.runs),
            verdicts=comparison.verdicts,
            heads=titles,
            rows=rows,
            style=Markup(page_part("page.css")),  # nosec B704
            plotly=packed_plotly(),
            script=source,
            policy=policy(source),
            figure=data_island(fronts_figure(comparison)),
        )
    )
    write_whole(path, page)
    return path
