"""The front: accuracy against cost, every trial a point."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from bitsearch.plan import BitPlan
from bitsearch.report import style
from bitsearch.report.format import accuracy, amount, cost, plotly_text, shorten, title, unit, widths
from bitsearch.report.ticks import cost_ticks
from bitsearch.report.verdict import is_uniform, kind
from bitsearch.search.front import pareto_front, validation_accuracy
from bitsearch.search.run_folder import RunSettings

MOST_LAYERS_IN_HOVER = 24
FADED = 0.35


@dataclass(frozen=True)
class FrontFigure:
    """The figure over the run's own metric, and what to change in it for any other."""

    figure: go.Figure
    views: dict[str, dict[str, Any]]
    """By metric, the two arguments of ``Plotly.update``: ``data`` and ``layout``."""


def front_figure(plans: Sequence[BitPlan], chosen: BitPlan, settings: RunSettings) -> FrontFigure:
    """Every measured trial, the front, the chosen plan and the lines to judge them by."""
    measured = [plan for plan in plans if plan.accuracy.validation is not None]
    groups = (
        [plan for plan in measured if not is_uniform(plan) and plan != chosen],
        [plan for plan in measured if is_uniform(plan) and plan != chosen],
        [chosen],
    )
    views = {metric: _view(measured, groups, metric, settings) for metric in metrics(plans, settings.metric)}
    now = views[settings.metric]
    marks = (
        ("Adaptive", {"symbol": "circle", "color": style.BLUE, "size": 11}),
        ("Uniform", {"symbol": "square", "color": style.VERMILION, "size": 10}),
        (
            "Chosen plan",
            {"symbol": "star", "color": style.ORANGE, "size": 21, "line": {"color": style.EDGE, "width": 1.5}},
        ),
    )
    line = {"color": style.GREEN, "width": 2.5, "shape": "hv"}
    traces = [go.Scatter(name="Pareto front", mode="lines", line=line, hoverinfo="skip")]
    traces += [go.Scatter(name=name, mode="markers", marker=marker, hoverinfo="text") for name, marker in marks]
    for index, trace in enumerate(traces):
        trace.update({key.replace(".", "_"): values[index] for key, values in now["data"].items()}, overwrite=False)
    figure = go.Figure(traces, layout=style.layout(height=500, hovermode="closest", dragmode="zoom"))
    figure.update_yaxes(style.AXIS | {"ticksuffix": " %", "title": {"text": "Validation accuracy", "standoff": 8}})
    figure.update_xaxes(style.AXIS)
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}, **_nested(now["layout"]))
    return FrontFigure(figure, views)


def metrics(plans: Sequence[BitPlan], first: str) -> list[str]:
    """Every metric that some plan has a cost in, the run's own first."""
    return list(dict.fromkeys([first, *(name for plan in plans for name in plan.costs)]))


def accuracy_ranges(plans: Sequence[BitPlan], settings: RunSettings) -> dict[str, list[float]]:
    """Ranges of the accuracy axis in percent: all trials, and the better half, which 1-bit plans do not squeeze."""
    values = sorted(validation_accuracy(plan) for plan in plans if plan.accuracy.validation is not None)
    reference = settings.full_precision.validation
    top = max([*values, *([] if reference is None else [reference])])

    def span(bottom: float) -> list[float]:
        room = 0.08 * max(top - bottom, 0.002)
        return [100 * (bottom - room), 100 * (top + room)]

    return {"all": span(values[0]), "better": span(values[len(values) // 2])}


def hover_text(plan: BitPlan, metric: str) -> str:
    """Trial, method, accuracies, cost and one line of bits a layer, for plotly."""
    method = plan.provenance.method
    lines = [
        f"trial {plan.provenance.trial}, {kind(plan) if method in ('adaptive', 'uniform') else method}",
        f"validation {accuracy(plan.accuracy.validation)}, test {accuracy(plan.accuracy.test)}",
        f"{title(metric)}: {cost(metric, plan.costs.get(metric), 4)}" + ("" if plan.met else " (over the budget)"),
        "",
    ]
    layers = [f"{shorten(name, 40)}  {widths(layer)}" for name, layer in plan.layers.items()]
    lines += layers[:MOST_LAYERS_IN_HOVER]
    if len(layers) > MOST_LAYERS_IN_HOVER:
        lines.append(f"… and {len(layers) - MOST_LAYERS_IN_HOVER} layers more")
    return "<br>".join(plotly_text(shorten(line, 120)) for line in lines)


def _view(
    measured: Sequence[BitPlan], groups: Sequence[Sequence[BitPlan]], metric: str, settings: RunSettings
) -> dict[str, Any]:
    """Data, one entry a trace, and layout of the figure with this metric as its cost axis."""
    front = pareto_front([plan for plan in measured if metric in plan.costs], metric)
    on_front = {id(plan) for plan in front}
    traces = [front, *groups]
    data: dict[str, list[list[Any]]] = {
        "x": [[plan.costs.get(metric) for plan in trace] for trace in traces],
        "y": [[100 * validation_accuracy(plan) for plan in trace] for trace in traces],
        "hovertext": [[], *([hover_text(plan, metric) for plan in group] for group in groups)],
        "marker.opacity": [
            *([1 if id(plan) in on_front else FADED for plan in trace] for trace in traces[:-1]),
            [1 for _ in traces[-1]],
        ],
    }
    lines = _cost_lines(metric, settings)
    costs = [value for trace in data["x"] for value in trace if value is not None] + [line[0] for line in lines]
    shapes = [_vertical(*line) for line in lines] + _full_precision(settings)
    text = f"{title(metric)} ({unit(metric)}, log scale)" if unit(metric) else title(metric)
    return {"data": data, "layout": {"xaxis.title.text": text, **_cost_axis(metric, costs), "shapes": shapes}}


def _cost_axis(metric: str, costs: Sequence[float]) -> dict[str, Any]:
    """A log axis around the costs with known ticks; linear if one of them is zero, which a log axis cannot show."""
    if not costs or min(costs) <= 0:
        automatic = {"xaxis.type": "linear", "xaxis.autorange": True, "xaxis.tickmode": "auto"}
        return automatic | {"xaxis.tickvals": None, "xaxis.ticktext": None, "xaxis.range": None}
    low, high = min(costs), max(costs)
    room = 0.06 * max(math.log10(high / low), 0.05)
    ticks = cost_ticks(metric, low * 10**-room, high * 10**room)
    return {
        "xaxis.type": "log",
        "xaxis.autorange": False,
        "xaxis.range": [math.log10(low) - room, math.log10(high) + room],
        "xaxis.tickmode": "array" if ticks else "auto",
        "xaxis.tickvals": ticks or None,
        "xaxis.ticktext": [amount(metric, value, 4) for value in ticks] or None,
    }


def _cost_lines(metric: str, settings: RunSettings) -> list[tuple[float, str, str, str]]:
    """(cost, label, colour, dash) of the lines that belong to this metric."""
    lines = []
    if metric in settings.baseline_costs:
        value = settings.baseline_costs[metric]
        label = f"baseline {settings.space.baseline}: {cost(metric, value)}"
        lines.append((value, label, style.GREY, "dot"))
    if metric == settings.metric:
        label = f"budget {shorten(settings.budget, 20)}: {cost(metric, settings.limit, 4)}"
        lines.append((settings.limit, label, style.PURPLE, "dash"))
    return lines


def _vertical(value: float, label: str, colour: str, dash: str) -> dict[str, Any]:
    text = {"text": plotly_text(label), "textposition": "start", "padding": 4, "font": {"size": 12}}
    line = {"color": colour, "width": 2, "dash": dash}
    ends = {"x0": value, "x1": value, "y0": 0, "y1": 1}
    return {"type": "line", "xref": "x", "yref": "paper", **ends, "line": line, "label": text, "layer": "below"}


def _full_precision(settings: RunSettings) -> list[dict[str, Any]]:
    share = settings.full_precision.validation
    if share is None:
        return []
    text = {"text": f"full precision {accuracy(share)}", "textposition": "start", "font": {"size": 12}, "padding": 4}
    line = {"color": style.GREY, "width": 1.5, "dash": "dashdot"}
    ends = {"x0": 0, "x1": 1, "y0": 100 * share, "y1": 100 * share}
    return [{"type": "line", "xref": "paper", "yref": "y", **ends, "line": line, "label": text, "layer": "below"}]


def _nested(layout: dict[str, Any]) -> dict[str, Any]:
    """``{"xaxis.type": …}`` as plotly's Python spells it, ``{"xaxis_type": …}``."""
    return {key.replace(".", "_"): value for key, value in layout.items() if value is not None}
