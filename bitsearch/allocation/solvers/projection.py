"""Projection: the nearest plan that meets every budget exactly, or one that is predicted to lose less.

Single moves from far away may end where no move leads on: spike bits cannot become time steps of the same layer, nor
can three layers exchange at once. So where losses were measured, an integer program looks for better plans, and what
has the least predicted loss is taken. Single moves go on from there, since they give time steps bits of their own.
"""

from collections.abc import Mapping, Sequence

from bitsearch.allocation.loss_model import EVEN_PRICES, LevelCount, LossModel
from bitsearch.allocation.moves import Kind
from bitsearch.allocation.solvers.integer_program import improve
from bitsearch.allocation.solvers.local_search import Problem
from bitsearch.cost import AllowedBits, Budget, CostModel, SpikeStatistics
from bitsearch.errors import InputError
from bitsearch.plan import LayerPlan


def project(
    plan: Mapping[str, LayerPlan],
    model: CostModel,
    budgets: Budget | Sequence[Budget],
    rules: AllowedBits,
    *,
    loss: LossModel | None = None,
    prices: Mapping[Kind, float] | None = None,
    activity: SpikeStatistics | None = None,
    use_slack: bool = True,
) -> dict[str, LayerPlan]:
    """A plan that keeps to the rules and costs at most every budget's limit: near ``plan``, or better by the loss.

    Args:
        plan: bits of every layer; values that the rules do not allow go to the nearest that they do.
        model: costs.
        budgets: the limits; each feasible, as :meth:`Budget.check_feasible` checks. Since the fewest bits are the
            cheapest in every metric, budgets that are feasible one by one are feasible together.
        rules: what each layer may get.
        loss: predicts the price of a move in accuracy; level counts by default, by which no bits are exchanged and
            nothing but ``plan`` is started from.
        prices: regularizer weights of ``weight``, ``spike`` and ``time``; a dear kind is reduced first.
        activity: spike counts, for budgets on metrics that need them; taken as constant.
        use_slack: spend what is left of the budgets, exchange bits and try other starts if that lowers the loss.

    Raises:
        InputError: no budget, one on spikes that were not counted, or one that even the fewest bits do not meet, with
            the smallest that they do.
    """
    limits = [budgets] if isinstance(budgets, Budget) else list(budgets)
    if not limits:
        raise InputError("no budget is given; give one such as 4x or memory=64KiB")
    for budget in limits:
        budget.check_counted(model, activity)
    problem = Problem(model, limits, rules, loss or LevelCount(), prices or EVEN_PRICES, activity)
    if not use_slack:
        return problem.within_budgets(plan).plan()
    if loss is None:
        # Level counts know nothing of the layers: they must not move bits that were learned.
        search = problem.within_budgets(plan)
        search.fill_budget(exchanges=0)
        return search.plan()
    near = problem.improved(plan)
    better, is_best = improve(near, problem)
    starts = ([] if better == near else [better]) + ([] if is_best else problem.uniform_starts(plan))
    return min((near, *(problem.improved(start) for start in starts)), key=problem.predicted)
