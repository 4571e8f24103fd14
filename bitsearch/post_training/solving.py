"""Plans by an integer program over kept scores: the best one of a budget, and the best uniform ones beside it."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bitsearch.allocation.loss_model import EVEN_PRICES, LossModel, predicted_loss
from bitsearch.allocation.methods.finish import CORRECTION_FACTOR
from bitsearch.allocation.solvers.integer_program import solve
from bitsearch.allocation.solvers.solution import unfinished
from bitsearch.allocation.solvers.uniform_grid import uniform_plans
from bitsearch.allocation_settings import Allocation
from bitsearch.cost import AllowedBits, Budget, CostModel, SpikeStatistics
from bitsearch.plan import LayerPlan, UniformBits

MOST_UNIFORM = 1000
"""More than there are uniform plans at a budget to which nothing can be added."""

Layers = dict[str, LayerPlan]


@dataclass(frozen=True)
class ScoredNetwork:
    """A network whose layers are scored: costs, what layers may get, and what it is predicted to cost in accuracy."""

    model: CostModel
    rules: AllowedBits
    loss: LossModel
    settings: Allocation

    def nearest(self, bits: UniformBits) -> Layers:
        """On every layer, what it may get that is nearest to ``bits``."""
        return self.rules.nearest(self.model, bits, **self.settings.quantizer.of_layers, decay=self.settings.decay)

    def best(self, budgets: Sequence[Budget], activity: SpikeStatistics) -> Layers:
        """The plan with the least predicted loss within the budgets; InputError if they cannot be met."""
        start = self.nearest(self.settings.start)
        solution = solve(start, self.model, budgets, self.rules, self.loss, activity=activity)
        if not solution.optimal:
            requests = ", ".join(budget.requested for budget in budgets)
            warnings.warn(
                f"allocate: the integer program of {requests} {unfinished(solution)} is taken",
                stacklevel=2,
            )
        return solution.plan

    def predicted(self, layers: Mapping[str, LayerPlan]) -> float:
        """The loss that a plan is predicted to add."""
        return predicted_loss(self.loss, layers, self.rules, EVEN_PRICES)

    def best_uniform(self, budgets: Sequence[Budget], activity: SpikeStatistics, count: int) -> list[Layers]:
        """The uniform plans within the budgets with the least predicted loss, at most ``count``, best first."""
        candidates = uniform_plans(
            self.model,
            self.rules,
            budgets,
            MOST_UNIFORM,
            weight_tolerance=self.loss.weight_tolerance,
            activity=activity,
        )
        return sorted(map(self.nearest, candidates), key=self.predicted)[:count]

    def lowered(self, aims: Sequence[Budget], activity: SpikeStatistics) -> list[Budget]:
        """The next attempt's aims: those that depend on how often neurons fire lower, but at the cheapest plan's."""
        smallest = self.rules.smallest(self.model)

        def lower(aim: Budget) -> Budget:
            if not self.model.needs_activity(aim.metric):
                return aim
            least = self.model.cost(aim.metric, smallest, activity)
            return replace(aim, limit=max(aim.limit * CORRECTION_FACTOR, least))

        return [lower(aim) for aim in aims]
