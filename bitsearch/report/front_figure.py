"""The front: score against cost, every trial a point."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from bitsearch.plan import BitPlan
from bitsearch.report import style
from bitsearch.runs.confirmed import Confirmed
from bitsearch.runs.folder import RunSettings
from bitsearch.runs.pareto import pareto_front, validation_score
from bitsearch.runs.plan_names import full_name, hover_name
from bitsearch.score import Measured, Score
from bitsearch.study.analysis import Spread, spreads
from bitsearch.text import (
    Scale,
    cost,
    mean_and_deviation,
    percent,
    plotly_text,
    scale,
    score_axis,
    score_spread,
    score_text,
    shorten,
    title,
)

MAX_LIMIT_RATIO = 4.0
"""Limits of the hardware beyond this ratio to the dearest plan's cost are not drawn."""
AXIS_MARGIN = 1.06
"""Ratio of an axis's end to the largest value on it, if the smallest value is 0."""


@dataclass(frozen=True)
class View:
    """Axis, lines and hover texts of the figure over one cost metric."""

    title: str
    scale: Scale
    range: tuple[float, float]
    """(first, last) value of the axis, in the scale's unit; the first is 0 if a cost is not positive."""
    shapes: Sequence[Mapping[str, Any]]
    hover: str
    spread: Mapping[str, Any]
    """Means over seeds, as plotly's ``x`` and ``error_x.array``."""

    def axis(self, kind: str) -> dict[str, Any]:
        """Arguments of ``Plotly.relayout`` for a ``log`` or ``linear`` axis; linear if the range starts at 0."""
        logarithmic = kind == "log" and self.range[0] > 0
        linear = [min(self.range[0], 0.0), self.range[1]]
        decades = math.log10(self.range[1] / self.range[0]) if logarithmic else 0.0
        return {
            "shapes": self.shapes,
            "xaxis.title.text": self.title,
            "xaxis.type": "log" if logarithmic else "linear",
            "xaxis.range": [math.log10(end) for end in self.range] if logarithmic else linear,
            # Over few powers of ten, ticks are also at 2 and 5 times each. A linear axis needs an explicit step: plotly
            # would briefly draw a thousand ticks with the step of the logarithmic axis.
            "xaxis.dtick": ("D2" if 1 < decades < 4 else None) if logarithmic else _step(self.range[1]),
        }


def front_figure(
    plans: Sequence[BitPlan],
    chosen_plan: BitPlan,
    settings: RunSettings,
    within: BitPlan | None = None,
    confirmed: Sequence[Confirmed] = (),
) -> tuple[go.Figure, dict[str, View]]:
    """The measured trials, the front, the chosen plan, lines of budgets and baseline; and the views over all metrics.

    Points of all traces but the front and the means over seeds carry the index of their plan as ``customdata``.
    ``within``, the cheapest plan within one standard error of the chosen one, gets a ring;
    plans that were ``confirmed`` get their means over further seeds, with error bars.
    """
    measured = [(index, plan) for index, plan in enumerate(plans) if plan.measured.validation is not None]
    seed_spreads = spreads(plans, settings.metric)
    views = {name: view_over(plans, name, settings, seed_spreads) for name in metrics(plans, settings.metric)}
    view = views[settings.metric]
    seeds = sorted({plan.provenance.seed for _, plan in measured})
    traces = [_front_line(plans, settings.metric, view)]
    groups: dict[tuple[str, int], list[tuple[int, BitPlan]]] = {}
    for index, plan in measured:
        if plan != chosen_plan:
            groups.setdefault((plan.provenance.method, plan.provenance.seed), []).append((index, plan))
    for method_index, method in enumerate(methods(plans)):
        for seed_index, seed in enumerate(seeds):
            group = groups.get((method, seed), [])
            marker = _marker(method_index, seed_index if len(seeds) > 1 else 0)
            name = f"{method_name(method)}, seed {seed}" if len(seeds) > 1 else method_name(method)
            traces += [_points(group, name, marker, len(seeds) > 1, settings.metric, view)] if group else []
    traces += [_spread_points(seed_spreads, view)] if seed_spreads else []
    if within is not None and within != chosen_plan:
        ringed = [(index, plan) for index, plan in measured if plan == within][:1]
        traces.append(_marked_points("Cheapest within one standard error", ringed, RING, settings.metric, view))
    traces += [_confirmed_points(plans, confirmed, settings.metric, view)] if confirmed else []
    starred = [(index, plan) for index, plan in measured if plan == chosen_plan][:1]
    traces.append(_marked_points("Chosen plan", starred, STAR, settings.metric, view))
    on_front = {id(plan) for plan in pareto_front([plan for _, plan in measured], settings.metric)}
    for trace in traces:
        if trace.meta == "trials":
            trace.selectedpoints = [
                point for point, index in enumerate(trace.customdata) if id(plans[index]) in on_front
            ]
    accuracy_range = accuracy_ranges(plans, settings, seed_spreads)["all"]
    layout = style.layout(
        height=540,
        hovermode="closest",
        dragmode="zoom",
        legend=style.LEGEND,
        yaxis=score_style(settings.score, accuracy_range),
        xaxis=style.axis(view.title, tickformat=",~g"),
    )
    return go.Figure(traces, layout=layout | view.axis("log")), views


def metrics(plans: Sequence[BitPlan], run_metric: str) -> list[str]:
    """The metrics of all plans' costs, the run's metric first."""
    return list(dict.fromkeys([run_metric, *(name for plan in plans for name in plan.costs)]))


def methods(plans: Sequence[BitPlan]) -> list[str]:
    """The methods of the plans, in the order of their markers: adaptive first, uniform second."""
    names = dict.fromkeys(plan.provenance.method for plan in plans)
    first_names = [name for name in ("adaptive", "uniform") if name in names]
    return [*first_names, *(name for name in names if name not in first_names)]


def accuracy_ranges(
    plans: Sequence[BitPlan], settings: RunSettings, seed_spreads: Sequence[Spread] = ()
) -> dict[str, list[float]]:
    """Ranges of the score's axis, in percent of a share: of all trials, and of the better half, without outliers.

    The bars of ``seed_spreads`` are within both.
    """
    score, factor = settings.score, percent(settings.score)
    values = sorted(
        (validation_score(plan) for plan in plans if plan.measured.validation is not None),
        reverse=score.direction == "down",
    )
    reference = settings.full_precision.validation
    ends = [*values, *([] if reference is None else [reference])]
    best = max(ends, key=score.rank)
    bars = [end for spread in seed_spreads for end in (spread.score[0] - spread.score[1], sum(spread.score))]

    def span(worst: float) -> list[float]:
        bottom, *_, top = sorted((worst, best, *bars))
        margin = 0.08 * max(top - bottom, 0.002 if score.share else 1e-3 * abs(top))
        upper = factor * (top + margin)
        return [factor * (bottom - margin), min(upper, 100 * max(top, 1) + 10 * margin) if score.share else upper]

    return {"all": span(min(ends, key=score.rank)), "better": span(values[len(values) // 2])}


def _x(plans: Sequence[BitPlan], metric: str, view: View) -> list[float | None]:
    return [plan.costs[metric] / view.scale.factor if metric in plan.costs else None for plan in plans]


def _y(plans: Sequence[BitPlan]) -> list[float]:
    return [percent(plan.measured.score) * validation_score(plan) for plan in plans]


def _front_line(plans: Sequence[BitPlan], metric: str, view: View) -> go.Scatter:
    front = pareto_front([plan for plan in plans if metric in plan.costs], metric)
    line = {"color": style.GREEN, "width": 2.5, "shape": "hv"}
    return go.Scatter(
        name="Pareto front", mode="lines", line=line, hoverinfo="skip", x=_x(front, metric, view), y=_y(front)
    )


def _marker(method: int, seed: int) -> dict[str, str]:
    """Colour and symbol of the points of a method and seed, by their indices."""
    marker = style.LOOKS[method % len(style.LOOKS)]
    return {**marker, "symbol": marker["symbol"] + style.SEED_VARIANTS[seed % len(style.SEED_VARIANTS)]}


def method_name(method: str) -> str:
    """The name of a method in a legend, escaped for plotly."""
    return plotly_text(shorten(method.replace("_", " "), 24)).capitalize()


def _points(
    group: Sequence[tuple[int, BitPlan]],
    name: str,
    marker: Mapping[str, str],
    several_seeds: bool,
    metric: str,
    view: View,
) -> go.Scatter:
    plans = [plan for _, plan in group]
    return go.Scatter(
        name=name,
        meta="trials",
        mode="markers",
        x=_x(plans, metric, view),
        y=_y(plans),
        customdata=[index for index, _ in group],
        text=[hover_name(plan, several_seeds) for plan in plans],
        hovertemplate=view.hover,
        marker={**marker, "size": style.POINT},
        unselected={"marker": {"size": style.DOMINATED, "opacity": 1}},
        cliponaxis=False,
    )


STAR = {"symbol": "star", "color": style.GOLD, "size": 21, "line": {"color": style.EDGE, "width": 1.5}}
RING = {"symbol": "circle-open", "color": style.ORANGE, "size": 19, "line": {"width": 2.5}}


def _marked_points(
    label: str, group: Sequence[tuple[int, BitPlan]], marker: Mapping[str, object], metric: str, view: View
) -> go.Scatter:
    plans = [plan for _, plan in group]
    return go.Scatter(
        name=label,
        mode="markers",
        x=_x(plans, metric, view),
        y=_y(plans),
        customdata=[index for index, _ in group],
        text=[hover_name(plan, several_seeds=False) for plan in plans],
        hovertemplate=view.hover,
        marker=dict(marker),
        cliponaxis=False,
    )


def _spread_points(seed_spreads: Sequence[Spread], view: View) -> go.Scatter:
    hover_lines = [
        f"{spread.method}, {spread.seeds} seeds, within {spread.requested}: mean of each seed's best"
        for spread in seed_spreads
    ]
    bars = {"thickness": 1.5, "width": 5, "color": style.GREY}
    return go.Scatter(
        name="Mean ± s.d. over seeds",
        meta="spread",
        mode="markers",
        x=view.spread["x"],
        y=[spread.factor * spread.score[0] for spread in seed_spreads],
        error_x={"array": view.spread["error_x.array"], **bars},
        error_y={"array": [spread.factor * spread.score[1] for spread in seed_spreads], **bars},
        text=[plotly_text(shorten(line, 120)) for line in hover_lines],
        hovertemplate=view.hover,
        marker={"symbol": "x-thin", "size": 12, "line": {"width": 3, "color": style.GREY}},
        cliponaxis=False,
    )


def _confirmed_points(plans: Sequence[BitPlan], confirmed: Sequence[Confirmed], metric: str, view: View) -> go.Scatter:
    by_trial = {plan.provenance.trial: (index, plan) for index, plan in enumerate(plans)}
    rows = [(*by_trial[result.trial], result.validation) for result in confirmed if result.trial in by_trial]
    finalists = [plan for _, plan, _ in rows]
    factor = percent(finalists[0].measured.score) if finalists else 1.0
    bars = {"thickness": 1.5, "width": 6, "color": style.ORANGE}
    return go.Scatter(
        name="Mean ± s.d., further seeds",
        mode="markers",
        x=_x(finalists, metric, view),
        y=[factor * mean_and_deviation(values)[0] for _, _, values in rows],
        error_y={"array": [factor * mean_and_deviation(values)[1] for _, _, values in rows], **bars},
        customdata=[index for index, _, _ in rows],
        text=[
            plotly_text(
                shorten(
                    f"{full_name(plan)}: {spread} over {len(values)} further seeds",
                    120,
                )
            )
            for _, plan, values in rows
            for spread in [score_spread(values, plan.measured.score)]
        ],
        hovertemplate=view.hover,
        marker={"symbol": "line-ew", "size": 12, "line": {"width": 3, "color": style.ORANGE}},
        cliponaxis=False,
    )


def _step(high: float) -> float | None:
    """Distance of the ticks of an axis from 0: 1, 2 or 5 times a power of ten; None if no cost is above 0."""
    if high <= 0:
        return None
    power: float = 10.0 ** math.floor(math.log10(high / 5))
    return next((times * power for times in (1, 2, 5) if high <= 10 * times * power), 10 * power)


def view_over(plans: Sequence[BitPlan], metric: str, settings: RunSettings, seed_spreads: Sequence[Spread]) -> View:
    """The axis of a metric for all plans, with the lines of its budgets, baseline and full precision."""
    costs = [plan.costs[metric] for plan in plans if metric in plan.costs]
    cost_scale = scale(metric, costs)
    lines = _cost_lines(metric, settings)
    # A limit of the hardware may be far beyond every plan's cost; its line would compress the plans into a corner.
    target_limits = {budget.limit for budget in settings.budgets if budget.of_target}
    distant_limits = {limit for limit in target_limits if limit > MAX_LIMIT_RATIO * max(costs)}
    lines = [line for line in lines if line[0] not in distant_limits]
    cost_spreads = [spread.costs.get(metric, (math.nan, math.nan)) for spread in seed_spreads]
    bars = [end for mean, deviation in cost_spreads for end in (mean - deviation, mean + deviation)]
    # A bar that reaches below 0 has no end on a logarithmic axis.
    bar_ends = [end for end in bars if end > 0]
    values = [value / cost_scale.factor for value in (*costs, *(line[0] for line in lines), *bar_ends)]
    low, high = min(values), max(values)
    margin = max((high / low) ** 0.06, 1.02) if low > 0 else AXIS_MARGIN
    name = plotly_text(shorten(title(metric), 60))
    shapes = _full_precision(settings.full_precision) + [_vertical(cost_scale, *line) for line in lines]
    unit = plotly_text(cost_scale.unit)
    number = "%{y:.2f} %" if settings.score.share else f"%{{y:.4~g}} {plotly_text(settings.score.unit)}".rstrip()
    hover = f"%{{text}}<br>validation {number}<br>{name.replace('%', '')}: %{{x:.4~g}} {unit}<extra></extra>"
    scaled_spreads = [
        tuple(None if math.isnan(value) else value / cost_scale.factor for value in cost_spread)
        for cost_spread in cost_spreads
    ]
    means, deviations = [mean for mean, _ in scaled_spreads], [deviation for _, deviation in scaled_spreads]
    error_bars = {"x": means, "error_x.array": deviations}
    return View(
        title=f"{name} ({unit})" if unit else name,
        scale=cost_scale,
        range=(low / margin if low > 0 else 0.0, high * margin),
        shapes=shapes,
        hover=hover,
        spread=error_bars,
    )


def _cost_lines(metric: str, settings: RunSettings) -> list[tuple[float, str, str, str]]:
    """(cost, label, colour, dash) of every vertical line over the metric."""
    lines = []
    for budget in settings.budgets:
        if budget.metric == metric:
            subject = budget.requested if budget.of_target else f"budget {budget.requested}"
            colour = style.VERMILION if budget.of_target else style.PURPLE
            lines.append((budget.limit, f"{subject}: {cost(metric, budget.limit, 4)}", colour, "dash"))
    if settings.baseline_costs.get(metric):
        value = settings.baseline_costs[metric]
        lines.append((value, f"baseline {settings.space.baseline}: {cost(metric, value, 4)}", style.GREY, "dot"))
    return lines


def _vertical(cost_scale: Scale, value: float, label: str, colour: str, dash: str) -> dict[str, Any]:
    ends = {"x0": value / cost_scale.factor, "x1": value / cost_scale.factor, "y0": 0, "y1": 1}
    line = {"color": colour, "width": 2, "dash": dash}
    return {"type": "line", "yref": "paper", **ends, "line": line, **_in_legend(label)}


def score_style(score: Score, limits: list[float]) -> dict[str, Any]:
    """The axis of a score."""
    return style.axis(plotly_text(score_axis(score)), range=limits, ticksuffix=" %" if score.share else "")


def _full_precision(reference: Measured) -> list[dict[str, Any]]:
    """The line of the full-precision score; no line if it was not measured."""
    if reference.validation is None:
        return []
    level = percent(reference.score) * reference.validation
    ends = {"x0": 0, "x1": 1, "y0": level, "y1": level}
    line = {"color": style.GREY, "width": 1.5, "dash": "dashdot"}
    label = f"full precision {score_text(reference.validation, reference.score)}"
    return [{"type": "line", "xref": "paper", **ends, "line": line, **_in_legend(label)}]


def _in_legend(label: str) -> dict[str, Any]:
    """A line is named in the legend, where its name lies over no point."""
    return {"name": plotly_text(shorten(label, 60)), "showlegend": True, "layer": "below"}
