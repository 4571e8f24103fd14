"""Sensitivities as a page of their own, and as a panel on the page of the run that was measured."""

from typing import Any

import plotly.graph_objects as go

from bitsearch.allocation.sensitivity.causes import FEW_LEVELS, MOST_DEAD
from bitsearch.allocation.sensitivity.records import NUMBERS, SYMBOLS, Sensitivities, WidthLoss
from bitsearch.errors import InputError
from bitsearch.report.sensitivity_figures import (
    gain_text,
    sensitivity_curves_figure,
    sensitivity_heat_figure,
    share_text,
)
from bitsearch.runs.folder import RunFolder
from bitsearch.text import MISSING, score_text

CLEAR = 2.0
"""Standard errors by which a gain stands out from chance."""
CAUSES = {
    "clipping": "The largest part of the weights' error is of weights beyond the largest level.",
    "rounding": "The largest part of the error lies between two levels.",
    "few levels": f"There are at most {FEW_LEVELS} levels: the best step size clips and rounds coarsely at once.",
    "time binning": "The largest part of the spikes' error comes from averaging frames.",
    "dead neurons": f"At least {100 * MOST_DEAD:.0f} % of the neurons that fire at the layer's finest send no spike.",
    "saturated neurons": "The largest part of the spikes' error is of spikes beyond the largest level.",
    "none": "The numbers are what they are at the layer's finest.",
}
"""What is meant by a cause."""
MEASURES = {
    "Gain of the loss": "Mean loss of a sample with this one change, minus that of the network at its finest.",
    "± s.e.": "Standard error of the gain, paired: of the samples' differences.",
    "Predicted": (
        "The gain by the loss model that allocations go by: half of the squared error, weighted by the Fisher. None of "
        "averaged frames, which no local model predicts."
    ),
    "Error": "Squared error of the weights, or of the spikes against those at the layer's finest, over their squares.",
    "Silent": "Share of the neurons that send no spike for any sample of a batch, and do at the layer's finest.",
    "Saturated": "Share of the spikes, those of zero left out, that are the largest there is.",
}
"""What is measured."""


def sensitivity_of(folder: RunFolder) -> Sensitivities | None:
    """What was measured in a run folder, if anything; InputError if it is of another network."""
    if not folder.sensitivity_file.is_file():
        return None
    measured, space = Sensitivities.load(folder.sensitivity_file), folder.settings.space
    if (measured.space, measured.network) != (space.name, space.network):
        raise InputError(
            f"{folder.sensitivity_file} is of network {measured.network!r} in space {measured.space!r}, not of this "
            "run's; delete it, or measure this run with `bitsearch sensitivity`"
        )
    return measured


def sensitivity_figures(measured: Sensitivities) -> dict[str, go.Figure]:
    """By the name of the page's element."""
    return {
        "sensitivity-heat": sensitivity_heat_figure(measured),
        "sensitivity-curves": sensitivity_curves_figure(measured),
    }


def sensitivity_panel(measured: Sensitivities) -> dict[str, Any]:
    """What the panel's template needs."""
    rows = [_panel_row(row, measured) for layer in measured.layers for row in _worst(measured, layer)]
    occurring = {row.cause for row in measured.widths}
    return {
        "measured": measured,
        "rows": rows,
        "heads": (*list(MEASURES)[:3], measured.score_kind.name.capitalize(), *list(MEASURES)[3:]),
        "words": MEASURES | {cause.capitalize(): words for cause, words in CAUSES.items() if cause in occurring},
        "score": score_text(measured.score, measured.score_kind),
    }


def _worst(measured: Sensitivities, layer: str) -> list[WidthLoss]:
    """Of every number of a layer, the row that adds most to the loss, and more than chance may."""
    worst = [max(rows, key=lambda row: row.increase) for number in NUMBERS if (rows := measured.of(layer, number))]
    return [row for row in worst if row.increase > CLEAR * (row.standard_error or 0.0)]


def _panel_row(row: WidthLoss, measured: Sensitivities) -> dict[str, Any]:
    return {
        "layer": row.layer,
        "at": f"{SYMBOLS[row.number]} {row.value}",
        "cells": (
            gain_text(row.increase),
            MISSING if row.standard_error is None else f"{row.standard_error:.2g}",
            MISSING if row.predicted is None else gain_text(row.predicted),
            score_text(row.score, measured.score_kind),
            share_text(row.clipping + row.rounding + row.binning),
            MISSING if row.silent is None else share_text(row.silent),
            MISSING if row.saturated is None else share_text(row.saturated),
        ),
        "cause": row.cause,
    }
