"""What the trials say together: importances, correlations of layers with accuracy, how the front grew."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from bitsearch.report import style
from bitsearch.report.format import plotly_text, shorten

ROW = 26
"""Pixels a row."""
LABEL = 26
"""Characters of a layer's name on an axis."""


def importance_figure(shares: Mapping[str, tuple[float, float]]) -> go.Figure:
    """Bars of each parameter's share of the variance of accuracy and of cost."""
    names = list(shares)[::-1]
    figure = go.Figure()
    for index, (title, colour) in enumerate((("validation accuracy", style.BLUE), ("cost", style.ORANGE))):
        figure.add_bar(
            name=title,
            orientation="h",
            y=list(range(len(names))),
            x=[100 * shares[name][index] for name in names],
            customdata=[plotly_text(name) for name in names],
            hovertemplate=f"%{{customdata}}: %{{x:.3g}} % of the variance of {title}<extra></extra>",
            marker={"color": colour, "pattern": {"shape": "" if index == 0 else "/"}},
        )
    figure.update_layout(style.layout(height=90 + 2 * ROW * len(names), legend=style.LEGEND, dragmode=False))
    figure.update_layout(legend_traceorder="normal", bargap=0.3)
    figure.update_xaxes(style.AXIS | {"fixedrange": True, "ticksuffix": " %", "rangemode": "tozero"})
    labels = [plotly_text(shorten(name, LABEL)) for name in names]
    figure.update_yaxes(style.AXIS | {"fixedrange": True, "tickvals": list(range(len(names))), "ticktext": labels})
    return figure


def correlation_figure(table: pd.DataFrame) -> go.Figure:
    """A row a layer, a column a kind of bits: blue where more goes with accuracy, orange with less."""
    rows = [[None if math.isnan(value) else float(value) for value in row] for row in table.to_numpy(dtype=float)]
    few = len(rows) <= 40
    figure = go.Figure(
        go.Heatmap(
            z=rows,
            x=list(table.columns),
            y=list(range(len(rows))),
            customdata=[[plotly_text(shorten(str(name), 60))] * len(table.columns) for name in table.index],
            hovertemplate="%{customdata}, %{x}: %{z:+.2f}<extra></extra>",
            texttemplate="%{z:+.2f}" if few else None,
            colorscale=[[0, style.VERMILION], [0.5, "#f2f2f0"], [1, style.BLUE]],
            zmin=-1,
            zmax=1,
            xgap=2,
            ygap=1,
            colorbar={"thickness": 10, "outlinewidth": 0, "tickfont": {"size": 11}},
        )
    )
    figure.update_layout(style.layout(height=layers_height(len(rows)), dragmode=False))
    figure.update_xaxes(style.AXIS | {"fixedrange": True, "showgrid": False, "side": "top"})
    figure.update_yaxes(layer_axis([str(name) for name in table.index]))
    return figure


def hypervolume_figure(volumes: Sequence[float], names: Sequence[str]) -> go.Figure:
    """The dominated share after each trial."""
    figure = go.Figure(
        go.Scatter(
            x=list(range(1, len(volumes) + 1)),
            y=[100 * volume for volume in volumes],
            text=[plotly_text(name) for name in names],
            hovertemplate="after %{text}: %{y:.2f} %<extra></extra>",
            mode="lines+markers" if len(volumes) <= 100 else "lines",
            line={"color": style.GREEN, "width": 2.5, "shape": "hv"},
            marker={"size": 6},
        )
    )
    figure.update_layout(style.layout(height=300, showlegend=False, dragmode=False))
    figure.update_xaxes(style.AXIS | {"fixedrange": True, "title_text": "Trials finished", "tickformat": "d"})
    figure.update_yaxes(style.AXIS | {"fixedrange": True, "title_text": "Hypervolume", "ticksuffix": " %"})
    return figure


def front_heat_figure(layers: Sequence[str]) -> go.Figure:
    """Layer by trial, empty: the page fills in the bits of the front over the metric that is looked at."""
    figure = go.Figure(_heat(showscale=True, texttemplate="%{z:.2~g}"))
    figure.update_layout(style.layout(height=layers_height(len(layers)), dragmode=False))
    figure.update_xaxes(style.AXIS | {"fixedrange": True, "showgrid": False})
    figure.update_xaxes(title_text="Trials on the front, cheapest first")
    figure.update_yaxes(layer_axis(layers))
    return figure


def layers_height(count: int) -> int:
    """Pixels for a figure with a row a layer."""
    return 70 + min(max(ROW * count, 120), 900)


def layer_axis(names: Sequence[str]) -> dict[str, object]:
    """A vertical axis with the first layer on top; of many layers not every one is named."""
    every = math.ceil(len(names) / 40)
    places = list(range(0, len(names), every))
    # Rows are numbered, since names cut short may coincide and plotly would take some names for numbers or dates.
    labels = [plotly_text(shorten(names[place], LABEL)) for place in places]
    ends = {"range": [len(names) - 0.5, -0.5], "showgrid": False, "fixedrange": True}
    return {**style.AXIS, **ends, "tickvals": places, "ticktext": labels}


def _heat(**more: object) -> go.Heatmap:
    return go.Heatmap(
        hovertemplate="%{customdata} %{z:.3~g}<br>%{text}<extra></extra>",
        colorscale="Cividis",
        zmin=1,
        zmax=8,
        xgap=1,
        ygap=1,
        colorbar={"thickness": 10, "outlinewidth": 0, "tickfont": {"size": 11}},
        **more,
    )


def curves_figure(layers: Sequence[str]) -> go.Figure:
    """Loss, accuracy, mean bits, renewals and each layer's bits over the epochs, empty: the page fills in a trial's."""
    heat = min(max(20 * len(layers), 90), 500)
    heights = (heat, 90, 150, 110, 110)
    total, gap = sum(heights), 28
    figure = go.Figure()
    for key, name, axis, look in _CURVES:
        line = {"line": {"color": look["color"], "width": 2}, "marker": {"symbol": look["symbol"], "size": 6}}
        words = f"%{{text}}<br>{name} %{{y:.4~g}}<extra></extra>"
        own = {"name": name, "yaxis": axis, "hovertemplate": words, "meta": key}
        figure.add_trace(go.Scatter(mode="lines+markers", **own, **line))
    words = "%{text}<br>%{y} step sizes renewed<extra></extra>"
    colour = {"color": style.ORANGE}
    figure.add_trace(go.Bar(name="step renewals", meta="renewals", yaxis="y4", marker=colour, hovertemplate=words))
    figure.add_trace(_heat(showscale=False, yaxis="y5"))
    bottom = 0.0
    titles = ("", "Renewals", "Mean bits, T", "Accuracy, %", "Loss")
    for number, height in zip((5, 4, 3, 2, 1), heights, strict=True):
        domain = [bottom / total, (bottom + height - gap) / total]
        bottom += height
        axis_look: dict[str, Any] = layer_axis(layers) if number == 5 else {**style.AXIS, "fixedrange": True}
        if number in (1, 3, 4):
            axis_look |= {"rangemode": "tozero"}
        heading = {"text": titles[5 - number], "font": {"size": 12}, "standoff": 6}
        figure.update_layout(
            {f"yaxis{number if number > 1 else ''}": {**axis_look, "domain": domain, "title": heading}}
        )
    figure.update_layout(style.layout(height=total + 60, dragmode=False, legend=style.LEGEND))
    # Tied to no panel: the lowest one is missing where a run logged no bits.
    free = {"anchor": "free", "position": 0}
    figure.update_xaxes(style.AXIS | free | {"fixedrange": True, "showgrid": False, "tickformat": "d"})
    figure.update_xaxes(title_text="Epoch")
    return figure


_CURVES = (
    ("loss", "training loss", "y", style.LOOKS[4]),
    ("validation_accuracy", "validation accuracy, %", "y2", style.LOOKS[2]),
    ("mean_weight_bits", "mean weight bits", "y3", style.LOOKS[0]),
    ("mean_spike_bits", "mean spike bits", "y3", style.LOOKS[1]),
    ("mean_time_steps", "mean time steps", "y3", style.LOOKS[6]),
)
"""Key in the log, name, axis and look of each line."""
DIVIDER = {
    "type": "line",
    "xref": "x",
    "yref": "paper",
    "y0": 0,
    "y1": 1,
    "line": {"color": style.GREY, "width": 1, "dash": "dot"},
}
"""Between two phases of a trial."""
