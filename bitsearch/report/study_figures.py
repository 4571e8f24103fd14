"""Figures over all trials: importances, correlations of layers with accuracy, the growth of the front."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bitsearch.plan import BitPlan
from bitsearch.report import style
from bitsearch.runs.plan_names import hover_name
from bitsearch.score import ACCURACY, Score
from bitsearch.text import plotly_lines, plotly_text, short_names

ROW_PIXELS = 26
"""Height of a row of a figure."""
MAX_LABELLED_CELLS = 300
"""Number of cells up to which a heat map shows its numbers."""
FEW_TRIALS = 10
"""Number of trials below which what is computed from them is drawn pale or hollow."""
LABELLED_LAYERS, LABEL_PIXELS = 60, 17
"""Number of layers up to which each has its label beside its row, and the least height of such a row."""
LABEL_CHARACTERS = 26
"""Length to which a layer's name on an axis is cut."""


def importance_figure(shares: Mapping[str, tuple[float, float]], trials: int, score: Score = ACCURACY) -> go.Figure:
    """Bars of the share that each parameter has in the variance of the score and of cost; hollow for few trials."""
    few = trials < FEW_TRIALS
    names = list(shares)[::-1]
    bars = [
        go.Bar(
            name=title,
            orientation="h",
            y=list(range(len(names))),
            x=[100 * shares[name][index] for name in names],
            customdata=[plotly_text(name) for name in names],
            hovertemplate=f"%{{customdata}}: %{{x:.3g}} % of the variance of {title}<extra></extra>",
            marker={
                "color": style.CLEAR if few else colour,
                "line": {"color": colour, "width": 1.5},
                "pattern": {"shape": "" if index == 0 or few else "/"},
            },
        )
        for index, (title, colour) in enumerate(((f"validation {score.name}", style.BLUE), ("cost", style.ORANGE)))
    ]
    labels = [plotly_text(label) for label in short_names(names, LABEL_CHARACTERS)]
    layout = style.layout(
        height=90 + 2 * ROW_PIXELS * len(names),
        legend={**style.LEGEND, "traceorder": "normal"},
        dragmode=False,
        bargap=0.3,
        xaxis=style.axis(fixedrange=True, ticksuffix=" %", rangemode="tozero"),
        yaxis=style.axis(fixedrange=True, tickvals=list(range(len(names))), ticktext=labels),
    )
    return go.Figure(bars, layout)


def correlation_figure(table: pd.DataFrame, trials: int) -> go.Figure:
    """Heat map of rank correlations, a row a layer and a column a kind of bits: +1 is blue, −1 orange; few are pale."""
    rows = [[None if math.isnan(value) else float(value) for value in row] for row in table.to_numpy(dtype=float)]
    has_few_rows = len(rows) <= 40
    heat = go.Heatmap(
        z=rows,
        x=list(table.columns),
        y=list(range(len(rows))),
        customdata=[[plotly_lines(str(name))] * len(table.columns) for name in table.index],
        hovertemplate="%{customdata}, %{x}: %{z:+.2f}<extra></extra>",
        texttemplate="%{z:+.2f}" if has_few_rows else None,
        colorscale=[
            [0, style.shaded(style.VERMILION)],
            [0.5, style.shaded(style.VERMILION, 0)],
            [0.5, style.shaded(style.BLUE, 0)],
            [1, style.shaded(style.BLUE)],
        ],
        # Of few trials, the colours are those of weak correlations.
        zmin=-3 if trials < FEW_TRIALS else -1,
        zmax=3 if trials < FEW_TRIALS else 1,
        showscale=trials >= FEW_TRIALS,
        xgap=2,
        ygap=1,
        colorbar={"thickness": 10, "outlinewidth": 0, "tickfont": {"size": 11}},
    )
    layout = style.layout(
        height=layers_height(len(rows)),
        dragmode=False,
        xaxis=style.axis(fixedrange=True, showgrid=False, side="top"),
        yaxis=layer_axis([str(name) for name in table.index]),
    )
    return go.Figure(heat, layout)


def hypervolume_figure(volumes: Sequence[float], names: Sequence[str]) -> go.Figure:
    """Line of the hypervolume after each trial."""
    line = go.Scatter(
        x=list(range(1, len(volumes) + 1)),
        y=[100 * volume for volume in volumes],
        text=[plotly_text(name) for name in names],
        hovertemplate="after %{text}: %{y:.2f} %<extra></extra>",
        mode="lines+markers" if len(volumes) <= 100 else "lines",
        line={"color": style.GREEN, "width": 2.5, "shape": "hv"},
        marker={"size": 6},
    )
    layout = style.layout(
        height=300,
        showlegend=False,
        dragmode=False,
        xaxis=style.axis("Trials finished", fixedrange=True, tickformat="d", dtick=style.whole_tick(len(volumes))),
        yaxis=style.axis("Hypervolume", fixedrange=True, ticksuffix=" %"),
    )
    return go.Figure(line, layout)


def front_heat_figure(layers: Sequence[str]) -> go.Figure:
    """Empty heat map of layers by trials; the page's script fills in the front's bits over the selected metric."""
    layout = style.layout(
        height=layers_height(len(layers)),
        dragmode=False,
        xaxis=style.axis("Trials on the front, cheapest first", fixedrange=True, showgrid=False),
        yaxis=layer_axis(layers),
    )
    return go.Figure(_heat(showscale=True, texttemplate="%{z:.2~g}"), layout)


def front_bits_figure(front: Sequence[BitPlan]) -> go.Figure:
    """:func:`front_heat_figure` with the weight bits of the front's plans, cheapest first."""
    layers = list(dict.fromkeys(layer for plan in front for layer in plan.layers))
    figure = front_heat_figure(layers)
    names = [hover_name(plan, several_seeds=False) for plan in front]
    figure.update_traces(
        z=[[plan.layers[name].weight_bits if name in plan.layers else None for plan in front] for name in layers],
        customdata=[[plotly_lines(name)] * len(front) for name in layers],
        text=[names] * len(layers),
        texttemplate="%{z}" if len(front) * len(layers) <= MAX_LABELLED_CELLS else None,
    )
    trials = ["—" if plan.provenance.trial is None else str(plan.provenance.trial) for plan in front]
    figure.update_xaxes(tickvals=list(range(len(front))), ticktext=trials, showticklabels=len(front) <= 30)
    return figure


def shares_figure(layers: Sequence[str]) -> go.Figure:
    """Empty heat map of the layers' shares of each cost, in percent; the page's script fills in a trial."""
    layout = style.layout(
        height=layers_height(len(layers)) + 20,
        dragmode=False,
        xaxis=style.axis(fixedrange=True, showgrid=False, side="top"),
        yaxis=layer_axis(layers),
    )
    shares = _heat(showscale=False, texttemplate="%{z:.3~g} %")
    return go.Figure(
        shares.update(zmin=0, zmax=None, hovertemplate="%{customdata}: %{z:.4~g} % of %{text}<extra></extra>"), layout
    )


def parallel_figure() -> go.Figure:
    """Empty lines through what every trial had and became; the page's script fills in the trials that are shown."""
    layout = style.layout(
        height=360,
        showlegend=False,
        dragmode=False,
        hovermode="closest",
        xaxis=style.axis(fixedrange=True, griddash="solid", gridwidth=2, side="top", tickangle=0),
        yaxis=style.axis(fixedrange=True, showgrid=False, showticklabels=False, range=[-0.14, 1.12], showline=False),
    )
    return go.Figure(layout=layout)


def layers_height(count: int) -> int:
    """Height in pixels of a figure with a row for each layer."""
    return 70 + max(min(ROW_PIXELS * count, LABEL_PIXELS * LABELLED_LAYERS), 120)


def layer_axis(names: Sequence[str], **options: Any) -> dict[str, Any]:
    """A vertical axis with the first layer on top; of more than :data:`LABELLED_LAYERS`, not every one has a label."""
    step = math.ceil(len(names) / LABELLED_LAYERS)
    rows = list(range(0, len(names), step))
    # Rows have numbers, since plotly reads some names as numbers or dates.
    labels = [plotly_text(label) for label in short_names(names, LABEL_CHARACTERS)[::step]]
    look: Any = {"range": [len(names) - 0.5, -0.5], "showgrid": False, "fixedrange": True, "tickfont": {"size": 11}}
    return style.axis(**look, tickvals=rows, ticktext=labels, **options)


def _heat(**options: object) -> go.Heatmap:
    return go.Heatmap(
        hovertemplate="%{customdata} %{z:.3~g}<br>%{text}<extra></extra>",
        colorscale="Cividis",
        zmin=1,
        zmax=8,
        xgap=1,
        ygap=1,
        colorbar={"thickness": 10, "outlinewidth": 0, "tickfont": {"size": 11}},
        **options,
    )


def curves_figure(layers: Sequence[str], score: Score = ACCURACY) -> go.Figure:
    """Empty panels of loss, accuracy, mean bits, renewals and layers' bits; the page's script fills in a trial."""
    heat_height = max(22 * len(layers), 60) + 28
    traces: list[Any] = []
    unit = ", %" if score.share else f", {score.unit}" if score.unit else ""
    for key, name, axis, colour_and_symbol in _CURVES:
        name = name or plotly_text(f"validation {score.name}{unit}")
        marker = {"symbol": colour_and_symbol["symbol"], "size": 6}
        line = {"line": {"color": colour_and_symbol["color"], "width": 2}, "marker": marker}
        hover = f"%{{text}}<br>{name} %{{y:.4~g}}<extra></extra>"
        trace_options = {"name": name, "yaxis": axis, "hovertemplate": hover, "meta": key}
        traces.append(go.Scatter(mode="lines+markers", **trace_options, **line))
    hover = "%{text}<br>%{y} step sizes renewed<extra></extra>"
    colour = {"color": style.ORANGE}
    bar: Any = {"name": "step renewals", "meta": "renewals", "yaxis": "y4", "hovertemplate": hover}
    # The text of a bar is for the box beside the pointer.
    traces.append(go.Bar(marker=colour, textposition="none", **bar))
    traces.append(_heat(showscale=False, yaxis="y5"))
    panel_heights = {
        "Renewals": 90,
        "Mean bits, T": 150,
        plotly_text(f"{score.name[:1].upper()}{score.name[1:]}{unit}"): 110,
        "Loss": 110,
    }
    panels = [("5", "", heat_height), *zip(("4", "3", "2", ""), panel_heights, panel_heights.values(), strict=True)]
    total, gap, bottom = sum(height for _, _, height in panels), 28, 0
    axes = {}
    for number, title, height in panels:
        axis_options: Any = {"size": 12, "standoff": 6, "domain": [bottom / total, (bottom + height - gap) / total]}
        bottom += height
        if number == "5":
            axes["yaxis5"] = layer_axis(layers, **axis_options)
        else:
            mode = "normal" if number == "2" else "tozero"
            axes[f"yaxis{number}"] = style.axis(title, fixedrange=True, rangemode=mode, **axis_options)
    # The axis is anchored to no panel, since the lowest panel is missing if a run logged no bits.
    epoch_axis: Any = {"anchor": "free", "position": 0, "fixedrange": True, "showgrid": False, "tickformat": "d"}
    layout = style.layout(
        height=total + 60, dragmode=False, legend=style.LEGEND, xaxis=style.axis("Epoch", **epoch_axis)
    )
    return go.Figure(traces, layout | axes)


_CURVES = (
    ("loss", "training loss", "y", style.LOOKS[4]),
    ("validation_score", "", "y2", style.LOOKS[2]),
    ("mean_weight_bits", "mean weight bits", "y3", style.LOOKS[0]),
    ("mean_spike_bits", "mean spike bits", "y3", style.LOOKS[1]),
    ("mean_time_steps", "mean time steps", "y3", style.LOOKS[6]),
)
"""(key, name, axis, colour and symbol) of each line; the score's name is its own."""
DIVIDER = {
    "type": "line",
    "xref": "x",
    "yref": "paper",
    "y0": 0,
    "y1": 1,
    "line": {"color": style.GREY, "width": 1, "dash": "dot"},
}
"""Line between two phases of a trial."""
