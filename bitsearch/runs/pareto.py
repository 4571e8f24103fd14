"""The Pareto front: plans that no other plan beats in both accuracy and cost."""

from collections.abc import Sequence

import pandas as pd

from bitsearch.pareto import ParetoFront
from bitsearch.plan import BitPlan


def pareto_front(plans: Sequence[BitPlan], metric: str) -> list[BitPlan]:
    """The non-dominated plans by validation accuracy (up) and ``metric`` (down), cheapest first.

    Of plans equal in both, the first is kept. Plans without a validation accuracy are left out.
    """
    front: ParetoFront[BitPlan] = ParetoFront()
    for plan in plans:
        if plan.accuracy.validation is not None:
            front.add(plan.costs[metric], plan.accuracy.validation, plan)
    return [plan for _, _, plan in front.points]


def best_plan(plans: Sequence[BitPlan], metric: str) -> BitPlan | None:
    """The plan with the best validation accuracy that meets its budget; of equals the cheapest. None if none does.

    Of plans with an accuracy goal, it is the cheapest that meets it; of equals the best.
    """
    feasible = [plan for plan in plans if plan.met and plan.accuracy.validation is not None]
    if any(plan.accuracy_goal is not None for plan in plans):
        return min(feasible, key=lambda plan: (plan.costs[metric], -validation_accuracy(plan)), default=None)
    return max(feasible, key=lambda plan: (validation_accuracy(plan), -plan.costs[metric]), default=None)


def validation_accuracy(plan: BitPlan) -> float:
    """A measured plan's validation accuracy."""
    assert plan.accuracy.validation is not None
    return plan.accuracy.validation


def to_dataframe(plans: Sequence[BitPlan]) -> pd.DataFrame:
    """One row a plan: trial, method, accuracies, costs, budget met, and the bits of every layer."""
    rows = []
    for plan in plans:
        row: dict[str, object] = {
            "trial": plan.provenance.trial,
            "method": plan.provenance.method,
            "validation_accuracy": plan.accuracy.validation,
            "test_accuracy": plan.accuracy.test,
            "met": plan.met,
            **plan.costs,
        }
        if plan.accuracy.soft_validation is not None:
            row["soft_validation_accuracy"] = plan.accuracy.soft_validation
        for name, layer in plan.layers.items():
            row[f"{name}.weight_bits"] = layer.weight_bits
            row[f"{name}.spike_bits"] = " ".join(str(bits) for bits in layer.spike_bits)
            row[f"{name}.time_steps"] = layer.time_steps
        rows.append(row)
    return pd.DataFrame(rows)
