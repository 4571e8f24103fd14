"""The Pareto front: plans that no other plan beats in both score and cost."""

from collections.abc import Sequence

import pandas as pd

from bitsearch.pareto import ParetoFront
from bitsearch.plan import BitPlan
from bitsearch.score import ACCURACY, Score


def pareto_front(plans: Sequence[BitPlan], metric: str) -> list[BitPlan]:
    """The non-dominated plans by validation score (the better way) and ``metric`` (down), cheapest first.

    Of plans equal in both, the first is kept. Plans without a validation score are left out.
    """
    front: ParetoFront[BitPlan] = ParetoFront()
    for plan in plans:
        if plan.measured.validation is not None:
            front.add(plan.costs[metric], validation_rank(plan), plan)
    return [plan for _, _, plan in front.points]


def best_plan(plans: Sequence[BitPlan], metric: str) -> BitPlan | None:
    """The plan with the best validation score that meets its budget; of equals the cheapest. None if none does.

    Of plans with an accuracy goal, it is the cheapest that meets it; of equals the best.
    """
    feasible = [plan for plan in plans if plan.met and plan.measured.validation is not None]
    if any(plan.accuracy_goal is not None for plan in plans):
        return min(feasible, key=lambda plan: (plan.costs[metric], -validation_rank(plan)), default=None)
    return max(feasible, key=lambda plan: (validation_rank(plan), -plan.costs[metric]), default=None)


def validation_score(plan: BitPlan) -> float:
    """A measured plan's validation score."""
    assert plan.measured.validation is not None
    return plan.measured.validation


def validation_rank(plan: BitPlan) -> float:
    """The same, as scores are compared: higher is better."""
    return plan.measured.score.rank(validation_score(plan))


def score_column(score: Score, split: str) -> str:
    """Name of a column, or of a value in the log: ``validation_accuracy``, or ``validation_score`` of other scores."""
    return f"{split}_{'accuracy' if score == ACCURACY else 'score'}"


def to_dataframe(plans: Sequence[BitPlan]) -> pd.DataFrame:
    """One row a plan: trial, method, accuracies, costs, budget met, and the bits of every layer."""
    rows = []
    for plan in plans:
        row: dict[str, object] = {
            "trial": plan.provenance.trial,
            "method": plan.provenance.method,
            score_column(plan.measured.score, "validation"): plan.measured.validation,
            score_column(plan.measured.score, "test"): plan.measured.test,
            "met": plan.met,
            **plan.costs,
        }
        if plan.measured.soft_validation is not None:
            row[score_column(plan.measured.score, "soft_validation")] = plan.measured.soft_validation
        for name, layer in plan.layers.items():
            row[f"{name}.weight_bits"] = layer.weight_bits
            row[f"{name}.spike_bits"] = " ".join(str(bits) for bits in layer.spike_bits)
            row[f"{name}.time_steps"] = layer.time_steps
            if layer.membrane_bits is not None:
                row[f"{name}.membrane_bits"] = layer.membrane_bits
        rows.append(row)
    return pd.DataFrame(rows)
