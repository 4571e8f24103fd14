"""Colours, axes and layout of the figures; the page's style sheet sets text, grid and hover colours, light and dark."""

from typing import Any

# Okabe and Ito's colours, which people with any kind of colour vision tell apart; the lightest darkened and the darkest
# lightened, so that each stands out 3 : 1 from the page's white and from its dark ground alike.
BLUE = "#0072B2"
VERMILION = "#D55E00"
GREEN = "#009E73"
ORANGE = "#B87400"
PURPLE = "#C06299"
GREY = "#808892"
SKY = "#2E8FC6"
SLATE = "#6F7A8A"
OLIVE = "#8a6d00"
LOOKS = (
    {"color": BLUE, "symbol": "circle"},
    {"color": VERMILION, "symbol": "square"},
    {"color": PURPLE, "symbol": "diamond"},
    {"color": SKY, "symbol": "triangle-up"},
    {"color": SLATE, "symbol": "triangle-down"},
    {"color": OLIVE, "symbol": "pentagon"},
    {"color": GREEN, "symbol": "hexagon"},
)
"""Colour and symbol of each method; no two methods share either."""
SEED_VARIANTS = ("", "-open", "-dot", "-open-dot")
"""Suffixes of a method's symbol for the seeds of a run with several seeds."""
SHADES = (BLUE, "#536BA4", "#9665A0", PURPLE, "#BE6A66", ORANGE)
"""From low to high; each stands out from light and dark."""
POINT = 11
"""Size of a trial on the front, in pixels."""
DOMINATED = 6
"""Size of a dominated trial: smaller, and not fainter, so that it can be seen on any ground."""
GOLD, EDGE = "#E69F00", "#4a3300"
"""Fill and outline of the chosen plan's star: one of them stands out from any ground."""

SHADE = 0.8
"""Opacity of a shaded cell at its most: text of the page's ink reads 4 : 1 or better on it, light and dark."""

FONT = {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif", "size": 13}
CLEAR = "rgba(0,0,0,0)"
GRID = "rgba(128,136,146,0.22)"
AXIS = {
    "gridcolor": GRID,
    "linecolor": GREY,
    "zeroline": False,
    "ticks": "",
    "automargin": True,
    "ticklabelstandoff": 6,
    # Measuring the labels' positions takes longer than the rest of an axis.
    "ticklabeloverflow": "allow",
}
LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"}


def whole_tick(count: int) -> int | None:
    """Distance of the ticks of an axis from 1 to ``count``: 1 for few, so that none repeats; else plotly's choice."""
    return 1 if count <= 12 else None


def shaded(colour: str, opacity: float = SHADE) -> str:
    """A colour over the page's own ground, whichever that is; nothing of it at opacity 0."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def axis(title: str = "", *, size: int = 13, standoff: int = 10, **options: Any) -> dict[str, Any]:
    """The axis of all figures, with ``options`` added or replaced."""
    return {**AXIS, "title": {"text": title, "font": {"size": size}, "standoff": standoff}, **options}


def layout(**options: Any) -> dict[str, Any]:
    """The layout of all figures, with ``options`` added or replaced."""
    return {
        "template": "none",
        "font": {**FONT, "color": "#4a5361"},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "modebar": {"bgcolor": CLEAR, "color": GREY, "activecolor": BLUE},
        "hoverlabel": {"font": FONT, "align": "left", "namelength": -1},
        **options,
    }
