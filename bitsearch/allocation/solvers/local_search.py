"""Single moves from a plan to the nearest ones within the budgets, and on to better ones.

Bits are taken away where the predicted loss rises least per unit of cost saved, until all budgets are met; then what is
left of them is spent where the loss falls most per share of what is left, and bits go from one layer to another as long
as that lowers it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bitsearch.allocation.loss_model import LossModel, predicted_loss
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

Layers = Mapping[str, LayerPlan]


@dataclass(frozen=True)
class Problem:
    """What plans are judged by: their costs, what layers may get, and the predicted loss."""

    model: CostModel
    budgets: Sequence[Budget]
    rules: AllowedBits
    loss: LossModel
    prices: Mapping[Kind, float]
    activity: SpikeStatistics | None = None

    def predicted(self, plan: Layers) -> float:
        """The loss that a plan is predicted to add, over the searched layers."""
        return predicted_loss(self.loss, plan, self.rules, self.prices)

    def within_budgets(self, plan: Layers) -> GreedySearch:
        """A search at the nearest plan that meets the budgets; InputError if even the fewest bits do not."""
        search = GreedySearch(plan, self.model, self.budgets, self.rules, self.loss, self.prices, self.activity)
        search.drop_idle_bits()
        while search.log_violation() > 0:
            if not search.remove_bits():
                for budget in self.budgets:
                    budget.check_feasible(self.model, self.rules, self.activity)
                metrics = ", ".join(budget.metric for budget in self.budgets)
                raise InputError(f"no plan meets the budgets {metrics}; allow more")
        return search

    def improved(self, plan: Layers) -> dict[str, LayerPlan]:
        """The plan within the budgets to which moves and exchanges lead from ``plan``."""
        search = self.within_budgets(plan)
        search.fill_budget(MAX_SWAPS_PER_LAYER * len(search.names))
        return search.plan()

    def uniform_starts(self, plan: Layers) -> list[dict[str, LayerPlan]]:
        """The uniform plans within the budgets that are predicted to lose least; all but bits is that of ``plan``."""
        tolerance, starts = self.loss.weight_tolerance, []
        for uniform in uniform_plans(
            self.model,
            self.rules,
            self.budgets,
            RESTART_CANDIDATES,
            weight_tolerance=tolerance,
            activity=self.activity,
        ):
            nearest = self.rules.nearest(self.model, uniform, granularity="layer")
            starts.append({name: layer.with_bits_of(nearest[name]) for name, layer in plan.items()})
        return sorted(starts, key=self.predicted)[:NUM_RESTARTS]

    def best_of_starts(self, plan: Layers) -> dict[str, LayerPlan]:
        """The best plan that single moves lead to, from ``plan`` and from uniform ones: they may end anywhere."""
        starts = [plan, *self.uniform_starts(plan)]
        return min((self.improved(start) for start in starts), key=self.predicted)
