"""Where a search's bits start: near the budget, so that weights need not adapt to bit widths that are soon removed."""

from dataclasses import replace

from bitsearch.allocation.loss_model import predicted_loss
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation.methods.sensitivity import score
from bitsearch.allocation.solvers.uniform_grid import uniform_plans
from bitsearch.cost import SpikeStatistics
from bitsearch.plan import UniformBits

CANDIDATES = 1000
"""More than there are uniform plans at a budget to which nothing can be added."""


def search_start(problem: AllocationProblem, activity: SpikeStatistics | None) -> UniformBits:
    """Where the latents start: ``start``, or if that is beyond the headroom, the best uniform plan within it.

    Starting far above the budget wastes epochs: weights adapt to bit widths that are soon removed. Plans are ranked by
    their levels; with a time axis, which a count of levels knows nothing of, by the predicted loss.
    """
    model, settings = problem.model, problem.settings
    wide = [replace(budget, limit=budget.limit * settings.headroom) for budget in problem.budgets]
    if all(budget.met_by(model, problem.plan(settings.start), activity) for budget in wide):
        return settings.start
    near = uniform_plans(
        model, problem.rules, wide, CANDIDATES, weight_tolerance=settings.weight_tolerance, activity=activity
    )
    if problem.session.splits.frames is None:
        # Where not even one fits, as under the budgets themselves alone, bits come down from where they are.
        return next(iter(near), settings.start)
    loss = score(problem)

    def predicted(bits: UniformBits) -> float:
        return predicted_loss(loss, problem.plan(bits), problem.rules, settings.prices)

    return min(near, key=predicted, default=settings.start)
