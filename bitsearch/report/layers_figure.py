"""The chosen plan, layer by layer: weight bits, spike bits and time steps as bars side by side."""

from collections.abc import Callable

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bitsearch.plan import BitPlan, LayerPlan
from bitsearch.report import style
from bitsearch.report.format import number, plotly_text, shorten, spike_widths

ROW = 30
"""Pixels a layer."""


def _spikes(layer: LayerPlan) -> str:
    """Spike bits step by step as long as there is room for them, their mean otherwise."""
    steps = spike_widths(layer)
    return steps.replace(",", ", ") if len(steps) <= 5 else number(layer.mean_spike_bits)


def _details(layer: LayerPlan) -> str:
    """What the bars cannot show."""
    steps = ", ".join(str(bits) for bits in layer.spike_bits)
    lines = [
        f"weights {layer.weight_bits} bits, one step size a {layer.granularity}",
        f"spikes by time step: {steps} bits{' (signed)' if layer.signed_input else ''}",
        f"time steps {layer.time_steps}, membrane decay {layer.decay:g}",
    ]
    return "<br>".join(lines)


Column = tuple[str, str, Callable[[LayerPlan], float], Callable[[LayerPlan], str]]
_COLUMNS: tuple[Column, ...] = (
    ("Weight bits", style.BLUE, lambda layer: layer.weight_bits, lambda layer: str(layer.weight_bits)),
    ("Spike bits", style.VERMILION, lambda layer: layer.mean_spike_bits, _spikes),
    ("Time steps", style.GREEN, lambda layer: layer.time_steps, lambda layer: str(layer.time_steps)),
)
"""Heading, colour, length of a layer's bar and what is written beside it."""


def layers_figure(plan: BitPlan) -> go.Figure:
    """Three columns of bars; one row a layer, in the order in which the network runs them."""
    layers = list(plan.layers.values())
    # Rows are numbered, since names cut short may coincide and plotly would take some names for numbers or dates.
    rows = list(range(len(layers)))
    hover = [f"{plotly_text(name)}<br>{_details(layer)}" for name, layer in plan.layers.items()]
    figure = make_subplots(rows=1, cols=3, shared_yaxes=True, horizontal_spacing=0.04)
    for column, (title, colour, value_of, label_of) in enumerate(_COLUMNS, start=1):
        values = [value_of(layer) for layer in layers]
        bars = go.Bar(
            name=title,
            orientation="h",
            x=values,
            y=rows,
            text=[label_of(layer) for layer in layers],
            textposition="outside",
            cliponaxis=False,
            hovertext=hover,
            hoverinfo="text",
            marker={"color": colour, "cornerradius": 3},
        )
        figure.add_trace(bars, row=1, col=column)
        figure.update_xaxes(range=[0, 1.3 * max(values)], showticklabels=False, showgrid=False, col=column)
        figure.add_annotation(style.panel_title(title, column))
    figure.update_layout(
        style.layout(
            height=50 + ROW * len(layers),
            margin={"l": 8, "r": 8, "t": 34, "b": 8},
            bargap=0.35,
            showlegend=False,
            dragmode=False,
        )
    )
    figure.update_xaxes(zeroline=True, zerolinecolor=style.GREY, fixedrange=True)
    figure.update_yaxes(range=[len(layers) - 0.5, -0.5], showgrid=False, zeroline=False, fixedrange=True, ticks="")
    ticks = [plotly_text(shorten(name, 18)) for name in plan.layers]
    figure.update_yaxes(tickvals=rows, ticktext=ticks, automargin=True, ticklabelstandoff=6, col=1)
    return figure
