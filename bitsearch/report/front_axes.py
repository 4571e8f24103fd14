"""The axes of the front's figure: over every cost metric its lines and units, and the range of the score."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitsearch.plan import BitPlan
from bitsearch.report import style
from bitsearch.runs.pareto import validation_score
from bitsearch.runs.run_settings import RunSettings
from bitsearch.score import Measured, Score
from bitsearch.study.analysis import Spread
from bitsearch.text import Scale, cost, percent, plotly_text, scale, score_axis, score_text, shorten, title

MAX_LIMIT_RATIO = 4.0
"""Limits of the hardware beyond this ratio to the dearest plan's cost are not drawn."""
AXIS_MARGIN = 1.06
"""Ratio of an axis's end to the largest value on it, if the smallest value is 0."""


@dataclass(frozen=True)
class View:
    """Axis, lines and hover texts of the figure over one cost metric."""

    title: str
    scale: Scale
    range: tuple[float, float]
    """(first, last) value of the axis, in the scale's unit; the first is 0 if a cost is not positive."""
    shapes: Sequence[Mapping[str, Any]]
    hover: str
    spread: Mapping[str, Any]
    """Means over seeds, as plotly's ``x`` and ``error_x.array``."""

    def axis(self, kind: str) -> dict[str, Any]:
        """Arguments of ``Plotly.relayout`` for a ``log`` or ``linear`` axis; linear if the range starts at 0."""
        logarithmic = kind == "log" and self.range[0] > 0
        linear = [min(self.range[0], 0.0), self.range[1]]
        decades = math.log10(self.range[1] / self.range[0]) if logarithmic else 0.0
        return {
            "shapes": self.shapes,
            "xaxis.title.text": self.title,
            "xaxis.type": "log" if logarithmic else "linear",
            "xaxis.range": [math.log10(end) for end in self.range] if logarithmic else linear,
            # Over few powers of ten, ticks are also at 2 and 5 times each. A linear axis needs an explicit step: plotly
            # would briefly draw a thousand ticks with the step of the logarithmic axis.
            "xaxis.dtick": ("D2" if 1 < decades < 4 else None) if logarithmic else _step(self.range[1]),
        }


def view_over(plans: Sequence[BitPlan], metric: str, settings: RunSettings, seed_spreads: Sequence[Spread]) -> View:
    """The axis of a metric for all plans, with the lines of its budgets, baseline and full precision."""
    costs = [plan.costs[metric] for plan in plans if metric in plan.costs]
    cost_scale = scale(metric, costs)
    lines = _cost_lines(metric, settings)
    # A limit of the hardware may be far beyond every plan's cost; its line would compress the plans into a corner.
    target_limits = {budget.limit for budget in settings.budgets if budget.of_target}
    distant_limits = {limit for limit in target_limits if limit > MAX_LIMIT_RATIO * max(costs)}
    lines = [line for line in lines if line[0] not in distant_limits]
    cost_spreads = [spread.costs.get(metric, (math.nan, math.nan)) for spread in seed_spreads]
    bars = [end for mean, deviation in cost_spreads for end in (mean - deviation, mean + deviation)]
    # A bar that reaches below 0 has no end on a logarithmic axis.
    bar_ends = [end for end in bars if end > 0]
    values = [value / cost_scale.factor for value in (*costs, *(line[0] for line in lines), *bar_ends)]
    low, high = min(values), max(values)
    margin = max((high / low) ** 0.06, 1.02) if low > 0 else AXIS_MARGIN
    name = plotly_text(shorten(title(metric), 60))
    shapes = _full_precision(settings.full_precision) + [_vertical(cost_scale, *line) for line in lines]
    unit = plotly_text(cost_scale.unit)
    number = "%{y:.2f} %" if settings.score.share else f"%{{y:.4~g}} {plotly_text(settings.score.unit)}".rstrip()
    hover = f"%{{text}}<br>validation {number}<br>{name.replace('%', '')}: %{{x:.4~g}} {unit}<extra></extra>"
    scaled_spreads = [
        tuple(None if math.isnan(value) else value / cost_scale.factor for value in cost_spread)
        for cost_spread in cost_spreads
    ]
    means, deviations = [mean for mean, _ in scaled_spreads], [deviation for _, deviation in scaled_spreads]
    error_bars = {"x": means, "error_x.array": deviations}
    return View(
        title=f"{name} ({unit})" if unit else name,
        scale=cost_scale,
        range=(low / margin if low > 0 else 0.0, high * margin),
        shapes=shapes,
        hover=hover,
        spread=error_bars,
    )


def _cost_lines(metric: str, settings: RunSettings) -> list[tuple[float, str, str, str]]:
    """(cost, label, colour, dash) of every vertical line over the metric."""
    lines = []
    for budget in settings.budgets:
        if budget.metric == metric:
            subject = budget.requested if budget.of_target else f"budget {budget.requested}"
            colour = style.VERMILION if budget.of_target else style.PURPLE
            lines.append((budget.limit, f"{subject}: {cost(metric, budget.limit, 4)}", colour, "dash"))
    if settings.baseline_costs.get(metric):
        value = settings.baseline_costs[metric]
        lines.append((value, f"baseline {settings.space.baseline}: {cost(metric, value, 4)}", style.GREY, "dot"))
    return lines


def _vertical(cost_scale: Scale, value: float, label: str, colour: str, dash: str) -> dict[str, Any]:
    ends = {"x0": value / cost_scale.factor, "x1": value / cost_scale.factor, "y0": 0, "y1": 1}
    line = {"color": colour, "width": 2, "dash": dash}
    return {"type": "line", "yref": "paper", **ends, "line": line, **_in_legend(label)}


def _full_precision(reference: Measured) -> list[dict[str, Any]]:
    """The line of the full-precision score; no line if it was not measured."""
    if reference.validation is None:
        return []
    level = percent(reference.score) * reference.validation
    ends = {"x0": 0, "x1": 1, "y0": level, "y1": level}
    line = {"color": style.GREY, "width": 1.5, "dash": "dashdot"}
    label = f"full precision {score_text(reference.validation, reference.score)}"
    return [{"type": "line", "xref": "paper", **ends, "line": line, **_in_legend(label)}]


def _in_legend(label: str) -> dict[str, Any]:
    """A line is named in the legend, where its name lies over no point."""
    return {"name": plotly_text(shorten(label, 60)), "showlegend": True, "layer": "below"}


def _step(high: float) -> float | None:
    """Distance of the ticks of an axis from 0: 1, 2 or 5 times a power of ten; None if no cost is above 0."""
    if high <= 0:
        return None
    power: float = 10.0 ** math.floor(math.log10(high / 5))
    return next((times * power for times in (1, 2, 5) if high <= 10 * times * power), 10 * power)


def accuracy_ranges(
    plans: Sequence[BitPlan], settings: RunSettings, seed_spreads: Sequence[Spread] = ()
) -> dict[str, list[float]]:
    """Ranges of the score's axis, in percent of a share: of all trials, and of the better half, without outliers.

    The bars of ``seed_spreads`` are within both.
    """
    score, factor = settings.score, percent(settings.score)
    values = sorted(
        (validation_score(plan) for plan in plans if plan.measured.validation is not None),
        reverse=score.direction == "down",
    )
    reference = settings.full_precision.validation
    ends = [*values, *([] if reference is None else [reference])]
    best = max(ends, key=score.rank)
    bars = [end for spread in seed_spreads for end in (spread.score[0] - spread.score[1], sum(spread.score))]

    def span(worst: float) -> list[float]:
        bottom, *_, top = sorted((worst, best, *bars))
        margin = 0.08 * max(top - bottom, 0.002 if score.share else 1e-3 * abs(top))
        upper = factor * (top + margin)
        return [factor * (bottom - margin), min(upper, 100 * max(top, 1) + 10 * margin) if score.share else upper]

    return {"all": span(min(ends, key=score.rank)), "better": span(values[len(values) // 2])}


def score_style(score: Score, limits: list[float]) -> dict[str, Any]:
    """The axis of a score."""
    return style.axis(plotly_text(score_axis(score)), range=limits, ticksuffix=" %" if score.share else "")
