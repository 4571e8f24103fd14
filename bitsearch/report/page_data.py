"""The data of the page's script: the numbers and bits of every trial, and the view over each metric."""

from collections.abc import Sequence
from typing import Any

from bitsearch.cost.metrics import METRICS
from bitsearch.plan import BitPlan
from bitsearch.renamed import current_name
from bitsearch.report import style
from bitsearch.report.definitions import definition
from bitsearch.report.front_axes import View, accuracy_ranges
from bitsearch.report.front_figure import method_name, methods
from bitsearch.report.history import is_number
from bitsearch.report.study_figures import DIVIDER, LABEL_CHARACTERS
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.plan_names import hover_name, name
from bitsearch.runs.run_settings import RunSettings
from bitsearch.study.analysis import KINDS, spreads
from bitsearch.text import measured_text, percent, plotly_lines, plotly_text, short_names, shorten, title

CONFIG = {
    "responsive": True,
    "displaylogo": False,
    # No image: plotly knows few of the points; the page's buttons and `bitsearch report --figures` draw them all.
    "modeBarButtons": [["zoom2d", "pan2d", "resetScale2d"]],
}
"""Plotly's configuration of every figure."""
ADDITIVE_SUBSTITUTE = "s_ace"
"""Metric whose shares replace the shares of a metric that is no sum over the layers."""


def page_data(
    folder: RunFolder, plans: Sequence[BitPlan], chosen_plan: BitPlan, views: dict[str, View]
) -> dict[str, Any]:
    """Columns of trials; a trial's index in them identifies it on the page."""
    settings = folder.settings
    method_names = methods(plans)
    seeds = {plan.provenance.seed for plan in plans}
    layers = list(dict.fromkeys(layer for plan in plans for layer in plan.layers))
    return {
        "metric": settings.metric,
        "chosen": plans.index(chosen_plan),
        "metrics": {metric: _metric(metric, view, settings) for metric, view in views.items()},
        "methods": method_names,
        "layers": layers,
        "short_layers": short_names(layers, LABEL_CHARACTERS),
        "hover_layers": [plotly_lines(name) for name in layers],
        "kinds": list(KINDS),
        "most": [
            max(max(layer.weight_bits for plan in plans for layer in plan.layers.values()), 2),
            max(max(max(layer.spike_bits) for plan in plans for layer in plan.layers.values()), 2),
            max(max(layer.time_steps for plan in plans for layer in plan.layers.values()), 2),
        ],
        "names": [_label(plan, len(seeds) > 1) for plan in plans],
        "hover_names": [hover_name(plan, len(seeds) > 1) for plan in plans],
        "trials": {
            "trial": [plan.provenance.trial for plan in plans],
            "method": [method_names.index(plan.provenance.method) for plan in plans],
            "validation": [plan.measured.validation for plan in plans],
            "test": [plan.measured.test for plan in plans],
            "validation_text": [measured_text(plan, "validation") for plan in plans],
            "test_text": [measured_text(plan, "test") for plan in plans],
            "met": [plan.met for plan in plans],
            "fits": [_fits_target(plan, settings) for plan in plans],
            "costs": {metric: [plan.costs.get(metric) for plan in plans] for metric in views},
        },
        "bits": [
            [
                [_compact_number(value(plan.layers[layer])) if layer in plan.layers else None for layer in layers]
                for plan in plans
            ]
            for value in KINDS.values()
        ],
        "accuracy_ranges": accuracy_ranges(plans, settings, spreads(plans, settings.metric)),
        "dominated": style.DOMINATED / style.POINT,
        "score": {
            "factor": percent(settings.score),
            "sign": settings.score.rank(1.0),
        },
        "divider": DIVIDER,
        "config": CONFIG,
    }


def parallel_data(plans: Sequence[BitPlan], finished: Sequence[Any]) -> dict[str, Any]:
    """The numbers that the outer loop drew, by parameter and plan, and the looks of the lines through them."""
    drawn = {
        trial.number: {current_name(key): value for key, value in trial.params.items() if is_number(value)}
        for trial in finished
    }
    rows: list[dict[str, float]] = [
        {} if plan.provenance.trial is None else drawn.get(plan.provenance.trial, {}) for plan in plans
    ]
    names = sorted({name for row in rows for name in row})
    return {
        "parameters": {name: [_rounded(row.get(name)) for row in rows] for name in names},
        "method_labels": [method_name(method) for method in methods(plans)],
        "shades": style.SHADES,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _metric(metric: str, view: View, settings: RunSettings) -> dict[str, Any]:
    limits = [budget.limit for budget in settings.budgets if budget.metric == metric]
    share_metric = metric if metric not in METRICS or METRICS[metric].additive else ADDITIVE_SUBSTITUTE
    return {
        "title": title(metric),
        "label": plotly_text(shorten(title(metric).split(" (")[0].split(",")[0], 20)),
        "definition": definition(metric),
        "factor": view.scale.factor,
        "unit": view.scale.unit,
        "baseline": settings.baseline_costs.get(metric),
        "limit": min(limits, default=None),
        "shares": share_metric,
        "share_title": f"Share of {title(share_metric).split(',')[0].split(' (')[0]}",
        "hover": view.hover,
        "spread": view.spread,
        "axes": {kind: view.axis(kind) for kind in ("log", "linear")},
    }


def _label(plan: BitPlan, several_seeds: bool) -> str:
    seed = f", seed {plan.provenance.seed}" if several_seeds else ""
    label = name(plan)
    return f"{label[:1].upper()}{label[1:]}, {plan.provenance.method}{seed}"


def _fits_target(plan: BitPlan, settings: RunSettings) -> bool:
    """True if a plan is within the limits of the hardware target."""
    target_limits = [budget for budget in settings.budgets if budget.of_target]
    return all(plan.costs.get(budget.metric, 0.0) <= budget.limit for budget in target_limits)


def _compact_number(value: float) -> float:
    """An integer for a whole number and three decimals otherwise, to save characters."""
    return int(value) if value == int(value) else round(value, 3)
