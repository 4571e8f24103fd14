"""How the evidence's figures look: the report's colours and shapes, drawn by matplotlib as SVG."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bitsearch.report import style
from bitsearch.report.paper import markdown

MARKS = ("o", "s", "D", "^", "v", "p", "h", "P")
_STYLE = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "svg.fonttype": "none",
    "svg.hashsalt": "bitsearch",
}


def look(number: int) -> dict[str, str]:
    """Colour, shape and dashes of the n-th series."""
    again, place = divmod(number, len(style.LOOKS))
    marker = MARKS[number % len(MARKS)]
    return {"color": style.LOOKS[place]["color"], "marker": marker, "linestyle": ":" if again else "-"}


def draw(path: Path, labels: tuple[str, str], paint: Callable[[Axes], None], width: float = 4.5) -> None:
    """Write one figure with (x, y) labels."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, 3.0), layout="constrained")
        axes = figure.subplots()
        paint(axes)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown."""
    return markdown(heads, [[str(cell) for cell in row] for row in rows])
