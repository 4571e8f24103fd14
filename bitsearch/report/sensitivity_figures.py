"""Figures of sensitivities: a heat map of every layer at every width, and its curves."""

import math

import plotly.graph_objects as go

from bitsearch.allocation.sensitivity.records import NUMBERS, SYMBOLS, Sensitivities, WidthLoss
from bitsearch.report import style
from bitsearch.report.study_figures import MAX_LABELLED_CELLS, layer_axis, layers_height
from bitsearch.text import SPACE, plotly_text, shorten

TITLES = {
    "weight_bits": "weight bits",
    "spike_bits": "spike bits",
    "time_steps": "time steps",
    "membrane_bits": "membrane bits",
}
LEAST_GAIN = 1e-3
"""Gains of the loss below are one colour: they are noise, or nothing."""


def sensitivity_heat_figure(measured: Sensitivities) -> go.Figure:
    """What the loss gains by every value of every number, a row a layer, the worst on top."""
    layers = measured.layers
    columns = sorted({(NUMBERS.index(row.number), row.value) for row in measured.widths})
    rows = {(row.layer, NUMBERS.index(row.number), row.value): row for row in measured.widths}
    cells = [[rows.get((layer, *column)) for column in columns] for layer in layers]
    top = max(LEAST_GAIN * 10, *(row.increase for row in measured.widths))
    heat = go.Heatmap(
        z=[[None if cell is None else math.log10(max(cell.increase, LEAST_GAIN)) for cell in row] for row in cells],
        x=list(range(len(columns))),
        y=list(range(len(layers))),
        customdata=[["" if cell is None else hover_text(cell) for cell in row] for row in cells],
        hovertemplate="%{customdata}<extra></extra>",
        text=[["" if cell is None else _two_decimals(cell.increase) for cell in row] for row in cells],
        texttemplate="%{text}" if len(layers) * len(columns) <= MAX_LABELLED_CELLS else None,
        colorscale=[[0, style.shaded(style.VERMILION, 0)], [1, style.shaded(style.VERMILION)]],
        zmin=math.log10(LEAST_GAIN),
        zmax=math.log10(top),
        xgap=1,
        ygap=1,
        colorbar=_colour_bar(top),
    )
    layout = style.layout(
        height=layers_height(len(layers)),
        dragmode=False,
        xaxis=style.axis(
            fixedrange=True,
            showgrid=False,
            side="top",
            tickvals=list(range(len(columns))),
            ticktext=[f"{SYMBOLS[NUMBERS[number]]}{value}" for number, value in columns],
        ),
        yaxis=layer_axis(layers),
    )
    return go.Figure(heat, layout)


def _two_decimals(value: float) -> str:
    return f"{value:z.2f}"


def _colour_bar(top: float) -> dict[str, object]:
    powers = range(round(math.log10(LEAST_GAIN)), math.floor(math.log10(top)) + 1)
    labels = [f"{10.0**power:g}" for power in powers]
    return {
        "thickness": 10,
        "outlinewidth": 0,
        "tickfont": {"size": 11},
        "tickvals": list(powers),
        "ticktext": [f"≤ {labels[0]}", *labels[1:]],
    }


def sensitivity_curves_figure(measured: Sensitivities) -> go.Figure:
    """A panel a number: what the loss gains by its values, measured with standard errors, and predicted (dotted).

    The worst layers have a colour each, and the others are grey.
    """
    numbers = [number for number in NUMBERS if any(row.number == number for row in measured.widths)]
    traces = []
    for index, layer in reversed(list(enumerate(measured.layers))):
        is_named = index < len(style.LOOKS)
        look = style.LOOKS[index] if is_named else {"color": style.GREY, "symbol": "circle"}
        first = True
        for number in numbers:
            rows = measured.of(layer, number)
            if not rows:
                continue
            panel = numbers.index(number)
            shared = {
                "x": [row.value for row in rows],
                "xaxis": f"x{panel + 1}" if panel else "x",
                "yaxis": f"y{panel + 1}" if panel else "y",
                "legendgroup": layer,
            }
            traces.append(
                go.Scatter(
                    y=[row.increase for row in rows],
                    error_y={"array": [row.standard_error or 0.0 for row in rows], "thickness": 1, "width": 3},
                    mode="lines+markers",
                    name=plotly_text(shorten(layer, 40)),
                    showlegend=is_named and first,
                    line={"color": look["color"], "width": 2 if is_named else 1},
                    marker={"symbol": look["symbol"], "size": 7 if is_named else 4},
                    hovertext=[hover_text(row) for row in rows],
                    hoverinfo="text",
                    legendrank=index,
                    **shared,
                )
            )
            if is_named:
                traces.append(
                    go.Scatter(
                        y=[row.predicted for row in rows],
                        mode="lines",
                        line={"color": look["color"], "width": 1.5, "dash": "dot"},
                        showlegend=False,
                        hoverinfo="skip",
                        **shared,
                    )
                )
            first = False
    axes = {}
    for panel, number in enumerate(numbers):
        suffix, gap = str(panel + 1) if panel else "", 0.12
        width = (1 - gap * (len(numbers) - 1)) / len(numbers)
        start = panel * (width + gap)
        most = max(row.value for row in measured.widths if row.number == number)
        axes[f"xaxis{suffix}"] = style.axis(
            TITLES[number].capitalize(),
            domain=[start, min(start + width, 1.0)],
            anchor=f"y{suffix}",
            fixedrange=True,
            dtick=style.whole_tick(most),
            tickformat="d",
        )
        axes[f"yaxis{suffix}"] = style.axis(
            "" if panel else "Gain of the loss", anchor=f"x{suffix}", fixedrange=True, tickformat=".3~g"
        )
    return go.Figure(traces, style.layout(height=380, dragmode=False, hovermode="closest", legend=style.LEGEND, **axes))


def gain_text(value: float) -> str:
    """With its sign, since some losses fall."""
    return f"{value:+.3g}"


def share_text(value: float) -> str:
    """In percent."""
    return f"{100 * value:.2g}{SPACE}%"


def hover_text(row: WidthLoss) -> str:
    """What there is to say of one value, in plotly's markup."""
    error = "" if row.standard_error is None else f" ± {row.standard_error:.2g}"
    predicted = "" if row.predicted is None else f", predicted {gain_text(row.predicted)}"
    shares = [
        f"{name} {share_text(share)}"
        for name, share in (("clipping", row.clipping), ("rounding", row.rounding), ("binning", row.binning))
        if share
    ]
    if row.silent:
        shares.append(f"{share_text(row.silent)} of the neurons fell silent")
    if row.saturated:
        shares.append(f"{share_text(row.saturated)} of the spikes at the largest level")
    lines = [
        f"{shorten(row.layer, 60)}, {row.value} {TITLES[row.number]}",
        f"loss {gain_text(row.increase)}{error}{predicted}",
        *([", ".join(shares)] if shares else []),
        f"why: {row.cause}",
    ]
    return "<br>".join(plotly_text(line) for line in lines)
