"""How every figure looks. Text, grid and hover colours come from the page's style sheet, which knows light and dark."""

from typing import Any

# Okabe and Ito's colours, which people with any kind of colour vision tell apart; all are legible on light and on dark.
BLUE = "#0072B2"
VERMILION = "#D55E00"
GREEN = "#009E73"
ORANGE = "#E69F00"
PURPLE = "#CC79A7"
GREY = "#808892"
SKY = "#56B4E9"
BLACK = "#4a5361"
LOOKS = (
    {"color": BLUE, "symbol": "circle"},
    {"color": VERMILION, "symbol": "square"},
    {"color": PURPLE, "symbol": "diamond"},
    {"color": SKY, "symbol": "triangle-up"},
    {"color": BLACK, "symbol": "triangle-down"},
    {"color": "#8a6d00", "symbol": "pentagon"},
    {"color": GREEN, "symbol": "hexagon"},
)
"""A colour and a shape for each method, told apart by either."""
SEED_VARIANTS = ("", "-open", "-dot", "-open-dot")
"""Of a method's shape, for the seeds of a run that has several."""
FADED = 0.3
"""Opacity of dominated trials."""
EDGE = "#4a3300"
"""Outline of the chosen plan's star."""

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
    "title": {"font": {"size": 13}, "standoff": 10},
}
LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"}


def layout(**more: Any) -> dict[str, Any]:
    """The layout that all figures share, with some of it replaced."""
    return {
        "template": "none",
        "font": {**FONT, "color": "#4a5361"},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "modebar": {"bgcolor": CLEAR, "color": GREY, "activecolor": BLUE},
        "hoverlabel": {"font": FONT, "align": "left", "namelength": -1},
        **more,
    }
