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
FADED = 0.45
FAR = 4.0
"""The hardware's limits beyond this many times the dearest plan are not drawn."""
_PLAIN = {"showarrow": False, "font": {"size": 12}}


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
        (searched_name(plans), {"symbol": "circle", "color": style.BLUE, "size": 11}),
        ("Uniform", {"symbol": "square", "color": style.VERMILION, "size": 10}),
        (
            "Chosen plan",
            {"symbol": "star", "color": style.ORANGE, "size": 21, "line": {"color": style.EDGE, "width": 1.5}},
        ),
    )
    line = {"color": style.GREEN, "width": 2.5, "shape": "hv"}
    traces = [go.Scatter(name="Pareto front", mode="lines", line=line, hoverinfo="skip")]
    faded = {"marker": {"opacity": FADED}}
    traces += [
        go.Scatter(name=name, mode="markers", marker=marker, hoverinfo="text", unselected=faded, cliponaxis=False)
        for name, marker in marks
    ]
    for index, trace in enumerate(traces):
        trace.update({key.replace(".", "_"): values[index] for key, values in now["data"].items()}, overwrite=False)
    figure = go.Figure(traces, layout=style.layout(height=500, hovermode="closest", dragmode="zoom"))
    figure.update_yaxes(style.AXIS | {"ticksuffix": " %", "title_text": "Validation accuracy"})
    figure.update_yaxes(range=accuracy_ranges(plans, settings)["all"])
    figure.update_xaxes(style.AXIS)
    figure.update_layout(legend=style.LEGEND, **_nested(now["layout"]))
    return FrontFigure(figure, views)


def searched_name(plans: Sequence[BitPlan]) -> str:
    """What the plans that are no baselines are called together: ``Adaptive``, or ``Searched`` for several methods."""
    methods = {kind(plan) for plan in plans if not is_uniform(plan)}
    return methods.pop().capitalize() if len(methods) == 1 else "Searched"


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
        return [100 * (bottom - room), min(100 * (top + room), 100)]

    return {"all": span(values[0]), "better": span(values[len(values) // 2])}


def hover_text(plan: BitPlan, metric: str) -> str:
    """Trial, method, accuracies, cost and one line of bits a layer, for plotly."""
    lines = [
        f"trial {plan.provenance.trial}, {kind(plan)}",
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
    data: dict[str, list[Any]] = {
        "x": [[plan.costs.get(metric) for plan in trace] for trace in traces],
        "y": [[100 * validation_accuracy(plan) for plan in trace] for trace in traces],
        "hovertext": [[], *([hover_text(plan, metric) for plan in group] for group in groups)],
        # Unselected points are faded; an array of opacities would fade the legend's marks with its first.
        "selectedpoints": [
            None,
            *([index for index, plan in enumerate(group) if id(plan) in on_front] for group in groups[:-1]),
            None,
        ],
    }
    lines = _cost_lines(metric, settings)
    costs = [value for trace in data["x"] for value in trace if value is not None]
    # What the hardware has may lie far beyond every plan; a line there would squeeze them into a corner.
    far = {limit.limit for limit in settings.budgets if limit.of_target and costs and limit.limit > FAR * max(costs)}
    lines = [line for line in lines if line[0] not in far]
    axis = _cost_axis(metric, costs + [line[0] for line in lines])
    shapes, notes = _full_precision(settings.full_precision.validation)
    shapes += [_vertical(*line) for line in lines]
    notes += [_label(value, label, axis["xaxis.type"] == "log") for value, label, _, _ in lines]
    text = (
        f"{title(metric)} ({unit(metric)}, {axis['xaxis.type']} scale)" if unit(metric) else plotly_text(title(metric))
    )
    return {"data": data, "layout": {"xaxis.title.text": text, **axis, "shapes": shapes, "annotations": notes}}


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
    for budget in settings.budgets:
        if budget.metric == metric:
            name = shorten(budget.requested, 30) if budget.of_target else f"budget {shorten(budget.requested, 20)}"
            lines.append((budget.limit, f"{name}: {cost(metric, budget.limit, 4)}", style.PURPLE, "dash"))
    return lines


def _vertical(value: float, label: str, colour: str, dash: str) -> dict[str, Any]:
    line = {"color": colour, "width": 2, "dash": dash}
    ends = {"x0": value, "x1": value, "y0": 0, "y1": 1}
    return {"type": "line", "name": label, "xref": "x", "yref": "paper", **ends, "line": line, "layer": "below"}


def _label(value: float, label: str, log: bool) -> dict[str, Any]:
    """Written upwards beside a vertical line. On a log axis annotations, unlike shapes, are placed by logarithm."""
    place = {"xref": "x", "x": math.log10(value) if log else value, "yref": "paper", "y": 0}
    anchors = {"xanchor": "right", "xshift": -1, "yanchor": "bottom", "yshift": 6}
    return {"text": plotly_text(label), "textangle": -90, **place, **anchors, **_PLAIN}


def _full_precision(share: float | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The line of the full precision accuracy, and what is written on it; nothing if it was not measured."""
    if share is None:
        return [], []
    line = {"color": style.GREY, "width": 1.5, "dash": "dashdot"}
    ends = {"x0": 0, "x1": 1, "y0": 100 * share, "y1": 100 * share}
    label = f"full precision {accuracy(share)}"
    shape = {"type": "line", "name": label, "xref": "paper", "yref": "y", **ends, "line": line, "layer": "below"}
    place = {
        "xref": "paper",
        "x": 0,
        "yref": "y",
        "y": 100 * share,
        "xanchor": "left",
        "yanchor": "bottom",
        "xshift": 4,
    }
    return [shape], [{"text": label, **place, **_PLAIN}]


def _nested(layout: dict[str, Any]) -> dict[str, Any]:
    """``{"xaxis.type": …}`` as plotly's Python spells it, ``{"xaxis_type": …}``."""
    return {key.replace(".", "_"): value for key, value in layout.items() if value is not None}
