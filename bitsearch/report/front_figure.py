"""The front: accuracy against cost, every trial a point."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from bitsearch.plan import BitPlan
from bitsearch.report import style
from bitsearch.report.verdict import hover_name
from bitsearch.runs.folder import RunSettings
from bitsearch.runs.pareto import pareto_front, validation_accuracy
from bitsearch.study.analysis import Spread, spreads
from bitsearch.text import Scale, accuracy, cost, plotly_text, scale, shorten, title

FAR = 4.0
"""The hardware's limits beyond this many times the dearest plan are not drawn."""
ROOM = 1.06


@dataclass(frozen=True)
class View:
    """The figure over one metric: what changes when its cost becomes the axis."""

    title: str
    scale: Scale
    range: tuple[float, float]
    """Of the axis, in the scale's unit; from 0 where a log axis cannot show a cost."""
    shapes: Sequence[Mapping[str, Any]]
    hover: str
    spread: Mapping[str, Any]
    """Of the means over seeds: ``x`` and ``error_x.array``."""

    def axis(self, kind: str) -> dict[str, Any]:
        """What to give ``Plotly.relayout`` for a ``log`` or ``linear`` axis; linear where a log one cannot be."""
        logarithmic = kind == "log" and self.range[0] > 0
        linear = [min(self.range[0], 0.0), self.range[1]]
        decades = math.log10(self.range[1] / self.range[0]) if logarithmic else 0.0
        return {
            "shapes": self.shapes,
            "xaxis.title.text": self.title,
            "xaxis.type": "log" if logarithmic else "linear",
            "xaxis.range": [math.log10(end) for end in self.range] if logarithmic else linear,
            # Over few powers of ten, also at 2 and 5 times each. A linear axis is told its step: for a moment, plotly
            # would draw a thousand ticks with that of the logarithmic one.
            "xaxis.dtick": ("D2" if 1 < decades < 4 else None) if logarithmic else _step(self.range[1]),
        }


def front_figure(plans: Sequence[BitPlan], chosen: BitPlan, settings: RunSettings) -> tuple[go.Figure, dict[str, View]]:
    """Every measured trial, the front, the chosen plan and the lines to judge them by; and the views over all metrics.

    Points carry the index of their plan as ``customdata``; all traces but the front and the means over seeds do.
    """
    measured = [(index, plan) for index, plan in enumerate(plans) if plan.accuracy.validation is not None]
    found = spreads(plans, settings.metric)
    views = {name: view_over(plans, name, settings, found) for name in metrics(plans, settings.metric)}
    view = views[settings.metric]
    seeds = sorted({plan.provenance.seed for _, plan in measured})
    traces = [_front_line(plans, settings.metric, view)]
    groups: dict[tuple[str, int], list[tuple[int, BitPlan]]] = {}
    for index, plan in measured:
        if plan != chosen:
            groups.setdefault((plan.provenance.method, plan.provenance.seed), []).append((index, plan))
    for number, method in enumerate(methods(plans)):
        for place, seed in enumerate(seeds):
            own = groups.get((method, seed), [])
            look = _look(number, place if len(seeds) > 1 else 0)
            name = f"{method_name(method)}, seed {seed}" if len(seeds) > 1 else method_name(method)
            traces += [_points(own, name, look, len(seeds) > 1, settings.metric, view)] if own else []
    traces += [_spread(found, view)] if found else []
    traces.append(_chosen([(index, plan) for index, plan in measured if plan == chosen][:1], settings.metric, view))
    on_front = {id(plan) for plan in pareto_front([plan for _, plan in measured], settings.metric)}
    for trace in traces:
        if trace.meta == "trials":
            bright = [place for place, index in enumerate(trace.customdata) if id(plans[index]) in on_front]
            trace.selectedpoints = bright
    whole = accuracy_ranges(plans, settings)["all"]
    layout = style.layout(
        height=500,
        hovermode="closest",
        dragmode="zoom",
        legend=style.LEGEND,
        yaxis=style.axis("Validation accuracy", ticksuffix=" %", range=whole),
        xaxis=style.axis(view.title, tickformat=",~g"),
    )
    return go.Figure(traces, layout=layout | view.axis("log")), views


def metrics(plans: Sequence[BitPlan], first: str) -> list[str]:
    """Every metric that some plan has a cost in, the run's own first."""
    return list(dict.fromkeys([first, *(name for plan in plans for name in plan.costs)]))


def methods(plans: Sequence[BitPlan]) -> list[str]:
    """What made the plans, in the order of their looks: learned ones first, uniform ones second."""
    found = dict.fromkeys(plan.provenance.method for plan in plans)
    known = [name for name in ("adaptive", "uniform") if name in found]
    return [*known, *(name for name in found if name not in known)]


def accuracy_ranges(plans: Sequence[BitPlan], settings: RunSettings) -> dict[str, list[float]]:
    """Ranges of the accuracy axis in percent: all trials, and the better half, which 1-bit plans do not squeeze."""
    values = sorted(validation_accuracy(plan) for plan in plans if plan.accuracy.validation is not None)
    reference = settings.full_precision.validation
    ends = [*values, *([] if reference is None else [reference])]
    top = max(ends)

    def span(bottom: float) -> list[float]:
        room = 0.08 * max(top - bottom, 0.002)
        return [100 * (bottom - room), min(100 * (top + room), 100 + 10 * room)]

    return {"all": span(min(ends)), "better": span(values[len(values) // 2])}


def _x(plans: Sequence[BitPlan], metric: str, view: View) -> list[float | None]:
    return [plan.costs[metric] / view.scale.factor if metric in plan.costs else None for plan in plans]


def _y(plans: Sequence[BitPlan]) -> list[float]:
    return [100 * validation_accuracy(plan) for plan in plans]


def _front_line(plans: Sequence[BitPlan], metric: str, view: View) -> go.Scatter:
    front = pareto_front([plan for plan in plans if metric in plan.costs], metric)
    line = {"color": style.GREEN, "width": 2.5, "shape": "hv"}
    return go.Scatter(
        name="Pareto front", mode="lines", line=line, hoverinfo="skip", x=_x(front, metric, view), y=_y(front)
    )


def _look(method: int, seed: int) -> dict[str, str]:
    """Colour and shape of the points of the given method and seed, by their places."""
    look = style.LOOKS[method % len(style.LOOKS)]
    return {**look, "symbol": look["symbol"] + style.SEED_VARIANTS[seed % len(style.SEED_VARIANTS)]}


def method_name(method: str) -> str:
    """What a legend calls a method; for plotly."""
    return plotly_text(shorten(method.replace("_", " "), 24)).capitalize()


def _points(
    own: Sequence[tuple[int, BitPlan]], name: str, look: Mapping[str, str], seeds: bool, metric: str, view: View
) -> go.Scatter:
    plans = [plan for _, plan in own]
    return go.Scatter(
        name=name,
        meta="trials",
        mode="markers",
        x=_x(plans, metric, view),
        y=_y(plans),
        customdata=[index for index, _ in own],
        text=[hover_name(plan, seeds) for plan in plans],
        hovertemplate=view.hover,
        marker={**look, "size": 10},
        unselected={"marker": {"opacity": style.FADED}},
        cliponaxis=False,
    )


def _chosen(own: Sequence[tuple[int, BitPlan]], metric: str, view: View) -> go.Scatter:
    plans = [plan for _, plan in own]
    edge = {"color": style.EDGE, "width": 1.5}
    return go.Scatter(
        name="Chosen plan",
        mode="markers",
        x=_x(plans, metric, view),
        y=_y(plans),
        customdata=[index for index, _ in own],
        text=[hover_name(plan, several_seeds=False) for plan in plans],
        hovertemplate=view.hover,
        marker={"symbol": "star", "color": style.ORANGE, "size": 21, "line": edge},
        cliponaxis=False,
    )


def _spread(found: Sequence[Spread], view: View) -> go.Scatter:
    words = [f"{one.method}, {one.seeds} seeds, within {one.requested}: mean of each seed's best" for one in found]
    bars = {"thickness": 1.5, "width": 5, "color": style.GREY}
    return go.Scatter(
        name="Mean ± s.d. over seeds",
        meta="spread",
        mode="markers",
        x=view.spread["x"],
        y=[100 * one.accuracy[0] for one in found],
        error_x={"array": view.spread["error_x.array"], **bars},
        error_y={"array": [100 * one.accuracy[1] for one in found], **bars},
        text=[plotly_text(shorten(line, 120)) for line in words],
        hovertemplate=view.hover,
        marker={"symbol": "x-thin", "size": 12, "line": {"width": 3, "color": style.GREY}},
        cliponaxis=False,
    )


def _step(high: float) -> float | None:
    """Between the ticks of an axis from 0: 1, 2 or 5 times a power of ten, at most ten; None if no cost is above 0."""
    if high <= 0:
        return None
    power: float = 10.0 ** math.floor(math.log10(high / 5))
    return next((times * power for times in (1, 2, 5) if high <= 10 * times * power), 10 * power)


def view_over(plans: Sequence[BitPlan], metric: str, settings: RunSettings, found: Sequence[Spread]) -> View:
    """The axis of a metric that has room for all plans, with the lines of its budgets, baseline and full precision."""
    costs = [plan.costs[metric] for plan in plans if metric in plan.costs]
    own = scale(metric, costs)
    lines = _cost_lines(metric, settings)
    # What the hardware has may lie far beyond every plan; a line there would squeeze them into a corner.
    far = {limit.limit for limit in settings.budgets if limit.of_target and limit.limit > FAR * max(costs)}
    lines = [line for line in lines if line[0] not in far]
    every = [value / own.factor for value in (*costs, *(line[0] for line in lines))]
    low, high = min(every), max(every)
    room = max((high / low) ** 0.06, 1.02) if low > 0 else ROOM
    name = plotly_text(shorten(title(metric), 60))
    shapes = _full_precision(settings.full_precision.validation) + [_vertical(own, *line) for line in lines]
    unit = plotly_text(own.unit)
    hover = f"%{{text}}<br>validation %{{y:.2f}} %<br>{name.replace('%', '')}: %{{x:.4~g}} {unit}<extra></extra>"
    ends = [one.costs.get(metric, (math.nan, math.nan)) for one in found]
    pairs = [tuple(None if math.isnan(end) else end / own.factor for end in pair) for pair in ends]
    means, deviations = [mean for mean, _ in pairs], [deviation for _, deviation in pairs]
    spread = {"x": means, "error_x.array": deviations}
    return View(
        f"{name} ({unit})" if unit else name, own, (low / room if low > 0 else 0.0, high * room), shapes, hover, spread
    )


def _cost_lines(metric: str, settings: RunSettings) -> list[tuple[float, str, str, str]]:
    """Cost, label, colour and dash of every vertical line that this metric has."""
    lines = []
    for budget in settings.budgets:
        if budget.metric == metric:
            what = budget.requested if budget.of_target else f"budget {budget.requested}"
            colour = style.VERMILION if budget.of_target else style.PURPLE
            lines.append((budget.limit, f"{what}: {cost(metric, budget.limit, 4)}", colour, "dash"))
    if settings.baseline_costs.get(metric):
        value = settings.baseline_costs[metric]
        lines.append((value, f"baseline {settings.space.baseline}: {cost(metric, value, 4)}", style.GREY, "dot"))
    return lines


def _vertical(own: Scale, value: float, label: str, colour: str, dash: str) -> dict[str, Any]:
    ends = {"x0": value / own.factor, "x1": value / own.factor, "y0": 0, "y1": 1}
    line = {"color": colour, "width": 2, "dash": dash}
    text = {"text": plotly_text(shorten(label, 60)), "textposition": "start", "font": {"size": 12}, "padding": 5}
    text |= {"xanchor": "left", "yanchor": "bottom"}
    return {"type": "line", "name": label, "yref": "paper", **ends, "line": line, "label": text, "layer": "below"}


def _full_precision(share: float | None) -> list[dict[str, Any]]:
    """The line of the full precision accuracy; nothing if it was not measured."""
    if share is None:
        return []
    ends = {"x0": 0, "x1": 1, "y0": 100 * share, "y1": 100 * share}
    line = {"color": style.GREY, "width": 1.5, "dash": "dashdot"}
    words = f"full precision {accuracy(share)}"
    text = {"text": words, "textposition": "start", "yanchor": "bottom", "font": {"size": 12}, "padding": 2}
    return [{"type": "line", "name": words, "xref": "paper", **ends, "line": line, "label": text, "layer": "below"}]
