"""The front: score against cost, every trial a point."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from bitsearch.plan import BitPlan
from bitsearch.report import style
from bitsearch.report.front_axes import View, accuracy_ranges, score_style, view_over
from bitsearch.runs.confirmed import Confirmed
from bitsearch.runs.pareto import pareto_front, validation_score
from bitsearch.runs.plan_names import full_name, hover_name
from bitsearch.runs.run_settings import RunSettings
from bitsearch.study.analysis import Spread, spreads
from bitsearch.text import mean_and_deviation, percent, plotly_text, score_spread, shorten


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
