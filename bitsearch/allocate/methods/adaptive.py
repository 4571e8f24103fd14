"""Adaptive allocation (Yao et al. 2025): bits and time steps learned by gradient while the network trains.

The bits move during the search phase; the result is projected onto the budget exactly, frozen, and fine-tuned.
"""

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from bitsearch.allocate.methods.activity import ActivityEstimate
from bitsearch.allocate.methods.base import AllocationProblem
from bitsearch.allocate.methods.finish import project_and_fine_tune
from bitsearch.allocate.methods.search_phase import search
from bitsearch.allocate.solvers.uniform_grid import uniform_plans
from bitsearch.cost import AllowedBits, CostModel, SpikeStatistics
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import UniformBits
from bitsearch.space import Allocation, SearchSpace


def allocate_adaptively(problem: AllocationProblem) -> Iterator[QuantizedNetwork]:
    """Search, project, freeze and fine-tune."""
    estimate = ActivityEstimate(problem)
    start = search_start(problem, estimate.from_start())
    settings = problem.settings.model_copy(update={"start": start})
    quantized = make_learnable_copy(problem.network, problem.model, problem.rules, problem.space, settings)
    estimate.at_plan(quantized)
    epochs = problem.session.settings.epochs
    search_epochs = max(1, round(epochs * settings.search_share))
    aims, loss = search(quantized, problem, search_epochs)
    project_and_fine_tune(
        quantized,
        problem,
        epochs=epochs - search_epochs,
        seed=problem.seed + 1,
        limits=aims,
        loss=loss,
        prices=settings.prices,
    )
    yield quantized


def search_start(problem: AllocationProblem, activity: SpikeStatistics | None) -> UniformBits:
    """Where the latents start: ``start``, or if that is beyond the headroom, the best uniform plan within it.

    Starting far above the budget wastes epochs: weights adapt to bit widths that are soon removed.
    """
    model, settings = problem.model, problem.settings
    wide = [replace(budget, limit=budget.limit * settings.headroom) for budget in problem.budgets]
    if all(budget.met_by(model, problem.plan(settings.start), activity) for budget in wide):
        return settings.start
    # Where not even one fits, as under the budgets themselves alone, bits come down from where they are.
    near = uniform_plans(model, problem.rules, wide, 1, weight_tolerance=settings.weight_tolerance, activity=activity)
    return next(iter(near), settings.start)


def make_learnable_copy(
    network: nn.Module, model: CostModel, rules: AllowedBits, space: SearchSpace, settings: Allocation
) -> QuantizedNetwork:
    """A quantized copy of ``network`` whose latents start at ``settings.start``."""
    return QuantizedNetwork.learnable(
        network,
        model,
        rules=rules,
        start=settings.start,
        baseline=space.baseline,
        granularity=settings.quantizer.granularity,
        decay=settings.decay,
    )
