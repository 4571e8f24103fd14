"""A run as a notebook shows it: the front as a figure, and a summary of front, chosen plan and verdict."""

from html import escape

import plotly.graph_objects as go

from bitsearch.plan import BitPlan
from bitsearch.report import style
from bitsearch.report.front_figure import front_figure
from bitsearch.report.paper import front_svg
from bitsearch.report.plans_table import plans_table, table_metrics
from bitsearch.runs.confirmed import confirmed
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.one_standard_error import cheapest_within_one_standard_error
from bitsearch.runs.test_split import verdict_of

WIDTH = 760
"""Of the summary, in pixels."""


def plot_front(folder: RunFolder) -> go.Figure:
    """The front of a run as a plotly figure, on a white ground: accuracy against the run's cost, every trial a point.

    Raises:
        InputError: no trial meets the budget yet, or a file of the run cannot be read.

    >>> figure = bitsearch.plot_front(bitsearch.RunFolder.open("run"))
    >>> figure.layout.yaxis.title.text
    'Validation accuracy'
    """
    within = cheapest_within_one_standard_error(folder)
    figure, _ = front_figure(folder.plans(), folder.chosen(), folder.settings, within, confirmed(folder))
    return figure.update_layout(
        paper_bgcolor="white", plot_bgcolor="white", margin={"l": 60, "r": 20, "t": 20, "b": 60}
    )


def summary_html(folder: RunFolder) -> str:
    """Front, table of plans, chosen plan and verdict of a run as HTML that needs no script, no style and no connection.

    Raises:
        InputError: as :func:`plot_front`.

    >>> bitsearch.summary_html(bitsearch.RunFolder.open("run")).startswith("<div")
    True
    """
    settings, plans, chosen = folder.settings, folder.plans(), folder.chosen()
    within = cheapest_within_one_standard_error(folder)
    figure = front_svg(plans, chosen, settings, within)
    table = plans_table(plans, chosen, settings, table_metrics(settings, list(chosen.costs)), within)
    titles = ["plan", *(f"{name} ({unit})" if unit else name for name, unit in table.columns)]
    rows = [[row.label, *(cell.text for cell in row.cells)] for row in table.rows]
    marked = [index for index, row in enumerate(table.rows) if row.chosen]
    return (
        f'<div style="max-width:{WIDTH}px"><p><b>{escape(settings.space.name)} at {escape(settings.request)}</b></p>'
        f"{figure}{_table(titles, rows, marked)}<p><b>The chosen plan</b></p>{_layers(chosen)}"
        f"<p>{escape(verdict_of(folder).text)}</p></div>"
    )


def _layers(plan: BitPlan) -> str:
    rows = [
        [name, str(layer.weight_bits), " ".join(map(str, layer.spike_bits)), str(layer.time_steps)]
        for name, layer in plan.layers.items()
    ]
    return _table(["layer", "weight bits", "spike bits per step", "time steps"], rows)


def _table(titles: list[str], rows: list[list[str]], marked: list[int] | None = None) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(
        f'<tr style="color:{style.GREEN};font-weight:bold">{_cells(row)}</tr>'
        if index in (marked or ())
        else f"<tr>{_cells(row)}</tr>"
        for index, row in enumerate(rows)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(row: list[str]) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in row)
