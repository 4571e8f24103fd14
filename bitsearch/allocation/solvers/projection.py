"""Projection: the nearest plan that meets every budget exactly.

Bits are taken away where the predicted loss rises least per unit of cost saved, until all budgets are met; then what is
left of them is spent where the loss falls most per share of what is left. Where losses were measured, bits then go from
one layer to another as long as that lowers them. Such single steps from far away may end where no step leads on, so
they start from the best uniform plans as well, and what has the least predicted loss is taken.
"""

from collections.abc import Mapping, Sequence

from bitsearch.allocation.loss_model import EVEN_PRICES, LevelCount, LossModel, predicted_loss
from bitsearch.allocation.moves import Kind
from bitsearch.allocation.solvers.greedy import GreedySearch
from bitsearch.allocation.solvers.uniform_grid import uniform_plans
from bitsearch.cost import AllowedBits, Budget, CostModel, SpikeStatistics
from bitsearch.errors import InputError
from bitsearch.plan import LayerPlan

MAX_SWAPS_PER_LAYER = 4
"""Exchanges of bits, at most so many a layer."""
RESTART_CANDIDATES = 8
"""Uniform plans among which there are the best to start from."""
NUM_RESTARTS = 2
"""How many of these, those with the lowest predicted loss, are used as restarts."""


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
    weights = prices or EVEN_PRICES
    if not limits:
        raise InputError("no budget is given; give one such as 4x or memory=64KiB")
    for budget in limits:
        budget.check_counted(model, activity)
    state = GreedySearch(plan, model, limits, rules, loss or LevelCount(), weights, activity)
    state.drop_idle_bits()
    while state.log_violation() > 0:
        if not state.remove_bits():
            for budget in limits:
                budget.check_feasible(model, rules, activity)
            raise InputError(f"no plan meets the budgets {', '.join(budget.metric for budget in limits)}; allow more")
    if not use_slack:
        return state.plan()
    if loss is None:
        # Level counts know nothing of the layers: they must not move bits that were learned.
        state.fill_budget(exchanges=0)
        return state.plan()
    exchanges = MAX_SWAPS_PER_LAYER * len(state.names)
    state.fill_budget(exchanges)

    def predicted(plan: Mapping[str, LayerPlan]) -> float:
        return predicted_loss(loss, plan, rules.searched, weights)

    plans, starts = [state.plan()], []
    for uniform in uniform_plans(
        model, rules, limits, RESTART_CANDIDATES, weight_tolerance=loss.weight_tolerance, activity=activity
    ):
        nearest = rules.nearest(model, uniform, granularity="layer")
        bits = {name: (layer.weight_bits, layer.spike_bits) for name, layer in nearest.items()}
        starts.append({name: layer.with_bits(*bits[name]) for name, layer in plan.items()})
    for start in sorted(starts, key=predicted)[:NUM_RESTARTS]:
        other = GreedySearch(start, model, limits, rules, loss, weights, activity)
        other.drop_idle_bits()
        if other.log_violation() <= 0:
            other.fill_budget(exchanges)
            plans.append(other.plan())
    return min(plans, key=predicted)
