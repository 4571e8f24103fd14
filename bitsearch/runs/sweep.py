"""A sweep: several budgets on one metric in one run, and the best plan within each."""

from collections.abc import Sequence

import pandas as pd

from bitsearch.cost import Budget, CostModel
from bitsearch.errors import InputError
from bitsearch.files import csv_text, write_whole
from bitsearch.plan import BitPlan, UniformBits
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.pareto import best_plan, score_column


def parse_sweep(requests: str | Sequence[str], metric: str, model: CostModel, baseline: UniformBits) -> list[Budget]:
    """The budgets of ``4x,8x``, or of a list of such texts, the loosest first.

    Raises:
        InputError: fewer than two, two alike, of several metrics, or malformed.
    """
    texts = requests.split(",") if isinstance(requests, str) else list(requests)
    budgets = [Budget.parse(text, metric, model, baseline) for text in texts]
    metrics = list(dict.fromkeys(budget.metric for budget in budgets))
    if len(metrics) > 1:
        raise InputError(f"a sweep is of one metric, not of {' and '.join(metrics)}; give the others as budgets")
    if len({budget.limit for budget in budgets}) < max(2, len(budgets)):
        raise InputError(f"sweep is {','.join(texts)!r}; give at least two budgets, each once, such as 4x,8x,16x")
    return sorted(budgets, key=lambda budget: -budget.limit)


def sweep_plans(folder: RunFolder) -> list[tuple[Budget, BitPlan | None]]:
    """By budget of the run's sweep, the best plan on validation within it and the other budgets; None if there is none.

    The plan's budgets are those that it was chosen within.
    """
    settings, plans = folder.settings, folder.plans()
    others = [budget for budget in settings.budgets if budget.metric != settings.metric or budget.of_target]
    rows = []
    for stop in settings.sweep:
        budgets = [stop, *others]
        judged = [
            plan.model_copy(update={"budget": tuple(budget.outcome(plan.costs[budget.metric]) for budget in budgets)})
            for plan in plans
        ]
        rows.append((stop, best_plan(judged, settings.metric)))
    return rows


def sweep_table(folder: RunFolder) -> pd.DataFrame:
    """One row a budget of the sweep: its plan's trial, method, scores and cost."""
    metric, score = folder.settings.metric, folder.settings.score
    return pd.DataFrame(
        [
            {
                "budget": stop.requested,
                "limit": stop.limit,
                "trial": None if plan is None else plan.provenance.trial,
                "method": None if plan is None else plan.provenance.method,
                score_column(score, "validation"): None if plan is None else plan.measured.validation,
                score_column(score, "test"): None if plan is None else plan.measured.test,
                metric: None if plan is None else plan.costs[metric],
            }
            for stop, plan in sweep_plans(folder)
        ]
    )


def write_sweep(folder: RunFolder) -> None:
    """Write ``plan-4x.json`` and so on, and ``sweep.csv``; nothing for a run without a sweep."""
    if not folder.settings.sweep:
        return
    for stop, plan in sweep_plans(folder):
        if plan is not None:
            plan.save(folder.sweep_file(stop))
    write_whole(folder.path / "sweep.csv", csv_text(sweep_table(folder)))
