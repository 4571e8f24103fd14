"""How the bits moved during the search phase of the chosen trial."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bitsearch.report import style
from bitsearch.report.format import cost, plotly_text, title, unit
from bitsearch.search.run_folder import RunSettings

_MEANS = (
    ("mean_weight_bits", "weight bits", style.BLUE, "circle"),
    ("mean_spike_bits", "spike bits", style.VERMILION, "square"),
    ("mean_time_steps", "time steps", style.GREEN, "diamond"),
)


def search_records(log: Sequence[Mapping[str, Any]], trial: int | None) -> dict[int, dict[str, float]]:
    """Measures of each epoch in which this trial's bits moved; of an epoch logged twice, the later ones."""
    found: dict[int, dict[str, float]] = {}
    for record in log:
        if not isinstance(record, Mapping) or record.get("phase") != "search" or record.get("trial") != trial:
            continue
        epoch, measures = record.get("epoch"), record.get("measures")
        if isinstance(epoch, int) and isinstance(measures, Mapping):
            found[epoch] = {
                str(key): float(value) for key, value in measures.items() if isinstance(value, (int, float))
            }
    return {epoch: found[epoch] for epoch in sorted(found) if found[epoch]}


def search_figure(records: Mapping[int, Mapping[str, float]], settings: RunSettings) -> go.Figure:
    """Mean bits and time steps above, the cost and its limit below, over the epochs."""
    epochs = list(records)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.14, row_heights=[0.6, 0.4])
    for key, name, colour, symbol in _MEANS:
        values = [records[epoch].get(key) for epoch in epochs]
        hover = [
            f"epoch {epoch}: mean {name} {value:.2f}" if value is not None else ""
            for epoch, value in zip(epochs, values, strict=True)
        ]
        figure.add_trace(_line(epochs, values, hover, name, colour, symbol), row=1, col=1)
    prices = [records[epoch].get(settings.metric) for epoch in epochs]
    hover = [
        f"epoch {epoch}: {plotly_text(cost(settings.metric, price, 4))}"
        for epoch, price in zip(epochs, prices, strict=True)
    ]
    figure.add_trace(_line(epochs, prices, hover, "cost", style.GREY, "circle"), row=2, col=1)
    if settings.metric in settings.limits:
        limit = settings.limits[settings.metric].limit
        label = f"budget {cost(settings.metric, limit, 4)}"
        place = {"xref": "x2 domain", "x": 0, "xanchor": "left", "xshift": 4, "yref": "y2", "y": limit}
        figure.add_annotation(text=plotly_text(label), **place, yanchor="bottom", showarrow=False, font={"size": 12})
        line = {"color": style.PURPLE, "width": 2, "dash": "dash"}
        ends = {"x0": 0, "x1": 1, "y0": limit, "y1": limit}
        figure.add_shape(type="line", xref="paper", yref="y2", **ends, line=line, layer="below")
    figure.update_layout(style.layout(height=460, hovermode="closest", dragmode=False))
    figure.update_layout(legend=style.LEGEND)
    figure.add_annotation(style.panel_title(_axis_title(settings.metric), 2))
    figure.update_xaxes(style.AXIS | {"fixedrange": True, "tickformat": "d", "showgrid": False})
    figure.update_yaxes(style.AXIS | {"fixedrange": True, "rangemode": "tozero"})
    figure.update_xaxes(title_text="Epoch of the search phase", row=2)
    figure.update_yaxes(tickformat="~s", row=2)
    return figure


def _line(
    epochs: list[int], values: list[float | None], hover: list[str], name: str, colour: str, symbol: str
) -> go.Scatter:
    return go.Scatter(
        x=epochs,
        y=values,
        name=name,
        mode="lines+markers",
        line={"color": colour, "width": 2.5},
        marker={"symbol": symbol, "size": 8},
        hovertext=hover,
        hoverinfo="text",
        showlegend=name != "cost",
    )


def _axis_title(metric: str) -> str:
    return f"{title(metric)} ({unit(metric)})" if unit(metric) else plotly_text(title(metric))
