"""Choosing one plan of a run."""

from bitsearch.cost.budget import check_metric, parse_request
from bitsearch.errors import InputError
from bitsearch.plan import BitPlan, BudgetOutcome
from bitsearch.search.front import best_plan
from bitsearch.search.run_folder import RunFolder


def select_plan(folder: RunFolder, *, trial: int | None = None, budget: str | None = None) -> BitPlan:
    """The chosen plan, one trial's, or the best by validation within another budget of the run's metric.

    Raises:
        InputError: both given, no such trial, a malformed budget, or one that no trial meets (names the cheapest).
    """
    if trial is not None and budget is not None:
        raise InputError("--trial and --budget were both given; give one of them")
    if trial is not None:
        return folder.plan(trial)
    if budget is None:
        return folder.chosen()
    metric = folder.settings.metric
    check_metric(metric)
    ratio, value = parse_request(budget)
    limit = folder.settings.baseline_costs[metric] / value if ratio else value
    plans = [_with_budget(plan, metric, budget.strip(), limit) for plan in folder.plans()]
    best = best_plan(plans, metric)
    if best is None:
        least = min((plan.costs[metric] for plan in plans), default=float("nan"))
        raise InputError(
            f"no trial of {folder.path} meets {budget.strip()} ({metric} ≤ {limit:.6g}); "
            f"its cheapest plan has {least:.6g}; "
            f"allow more, or search for it: bitsearch run --metric {metric} --budget {budget.strip()}"
        )
    return best


def _with_budget(plan: BitPlan, metric: str, requested: str, limit: float) -> BitPlan:
    achieved = plan.costs[metric]
    outcome = BudgetOutcome(metric=metric, requested=requested, limit=limit, achieved=achieved, met=achieved <= limit)
    return plan.model_copy(update={"budget": (outcome,)})
