"""Uniform allocation: the same bits for every searched layer. The baseline that any other method has to beat."""

from collections.abc import Iterator

from bitsearch.allocation.methods.activity import ActivityEstimate
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation.methods.finish import train_within_budgets
from bitsearch.allocation.solvers.uniform_grid import uniform_plans
from bitsearch.cost import SpikeStatistics
from bitsearch.errors import InputError
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import UniformBits


def best_uniform(problem: AllocationProblem, activity: SpikeStatistics | None) -> UniformBits:
    """The first of :func:`uniform_plans`, at the next attempt the next; InputError if none meets the budgets."""
    limit = problem.space.search.uniform_trials
    candidates = uniform_plans(
        problem.model,
        problem.rules,
        problem.budgets,
        limit,
        weight_tolerance=problem.settings.weight_tolerance,
        activity=activity,
    )
    if not candidates:
        requests = ", ".join(budget.requested for budget in problem.budgets)
        raise InputError(f"no uniform plan meets the budget {requests}; allow more, or take another method")
    return candidates[problem.attempt % len(candidates)]


def allocate_uniformly(problem: AllocationProblem) -> Iterator[QuantizedNetwork]:
    """The method ``uniform``: train :func:`best_uniform`."""
    bits = best_uniform(problem, ActivityEstimate(problem).from_start())
    yield train_within_budgets(problem, problem.plan(bits), "uniform")
