"""By how much a plan is cheaper in every cost: one ratio says little of the others."""

from collections.abc import Mapping

from bitsearch.plan import BitPlan
from bitsearch.runs.run_settings import RunSettings
from bitsearch.text import title

SHOWN = ("bit_budget", "weight_memory", "s_ace", "energy", "latency")
"""Metrics of the sentences."""


def savings(plan: BitPlan, costs: Mapping[str, float]) -> dict[str, float]:
    """By metric, how many times as much as the plan something else costs, whose ``costs`` these are.

    Metrics that either does not have, or that cost the plan nothing, are left out.
    """
    return {metric: costs[metric] / cost for metric, cost in plan.costs.items() if cost and costs.get(metric)}


def savings_words(plan: BitPlan, settings: RunSettings) -> list[str]:
    """What the baseline costs, against the chosen plan, in one sentence: ``Bit Budget 4.2x, Weight memory 2x``.

    A second is of the network as it was given, if the run has its costs.
    """
    sentences = [_sentence(f"The baseline {settings.space.baseline} costs", savings(plan, settings.baseline_costs))]
    if settings.reference is not None:
        given = f"The network itself, {settings.reference}, costs"
        sentences.append(_sentence(given, savings(plan, settings.reference.costs)))
    return [sentence for sentence in sentences if sentence]


def _sentence(beginning: str, ratios: Mapping[str, float]) -> str:
    parts = [f"{title(metric).split(' W̄')[0]} {ratios[metric]:.3g}x" for metric in SHOWN if metric in ratios]
    return f"{beginning}, against the chosen plan: {', '.join(parts)}." if parts else ""
