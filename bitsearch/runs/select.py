"""Choosing one plan of a run."""

import shlex
from collections.abc import Sequence

from bitsearch.cost import METRICS, Budget
from bitsearch.cost.budget import parse_request, split_request
from bitsearch.errors import InputError
from bitsearch.plan import BitPlan
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.one_standard_error import require_within_one_standard_error
from bitsearch.runs.pareto import best_plan
from bitsearch.text import cost


def select_plan(
    folder: RunFolder, *, trial: int | None = None, budget: str | None = None, one_standard_error: bool = False
) -> BitPlan:
    """The chosen plan, one trial's, the best by validation within another budget, or the cheapest within one error.

    Args:
        folder: of the run.
        trial: its number.
        budget: another than the run's own, of any metric.
        one_standard_error: the plan of :func:`bitsearch.runs.one_standard_error.require_within_one_standard_error`.

    Raises:
        InputError: several given, no such trial, a malformed budget, or one that no trial meets (names the cheapest).
    """
    options = {"--trial": trial is not None, "--budget": budget is not None, "--one-se": one_standard_error}
    chosen = [name for name, is_given in options.items() if is_given]
    if len(chosen) > 1:
        raise InputError(f"{chosen[0]} and {chosen[1]} were both given; give one of them")
    if one_standard_error:
        return require_within_one_standard_error(folder)
    if trial is not None:
        return folder.plan(trial)
    if budget is None:
        return folder.chosen()
    settings = folder.settings
    metric, amount = split_request(budget, settings.metric, settings.target)
    ratio, value = parse_request(amount, metric)
    if ratio and metric not in settings.baseline_costs:
        raise InputError(f"{metric} of the baseline is not known; give a number in {METRICS[metric].unit}")
    limit = settings.baseline_costs[metric] / value if ratio else value
    limited = Budget(metric, amount.strip(), limit)
    budgets = (limited, *(fixed for fixed in settings.budgets if fixed.of_target))
    # Plans of an earlier version may lack a metric.
    plans = [_with_budgets(plan, budgets) for plan in folder.plans() if metric in plan.costs]
    best = best_plan(plans, metric)
    if best is None:
        least = min((plan.costs[metric] for plan in plans), default=None)
        raise InputError(
            f"no trial of {folder.path} meets {amount.strip()} ({metric} ≤ {cost(metric, limit, 6)}); "
            f"its cheapest plan has {cost(metric, least, 6)}; "
            f"allow more, or search for it: bitsearch run --budget {shlex.quote(f'{metric}={amount.strip()}')}"
        )
    return best


def _with_budgets(plan: BitPlan, budgets: Sequence[Budget]) -> BitPlan:
    outcomes = [budget.outcome(plan.costs[budget.metric]) for budget in budgets]
    return plan.model_copy(update={"budget": tuple(outcomes)})
