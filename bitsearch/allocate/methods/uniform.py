"""Uniform allocation: the same bits for every searched layer. The baseline that any other method has to beat."""

from collections.abc import Iterator, Mapping

from lightning_fabric import Fabric
from torch import nn

from bitsearch.allocate.methods.base import AllocationProblem
from bitsearch.allocate.methods.finish import expected_activity, train_at_plan
from bitsearch.allocate.solvers.uniform_grid import uniform_plans
from bitsearch.cost import AllowedBits, CostModel, SpikeStatistics
from bitsearch.data import Splits
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.space import SearchSpace
from bitsearch.train.fine_tune import fine_tune
from bitsearch.train.loop import OnEpoch
from bitsearch.train.state import Checkpoints


def train_fixed(
    network: nn.Module,
    model: CostModel,
    rules: AllowedBits,
    plan: Mapping[str, LayerPlan],
    splits: Splits,
    space: SearchSpace,
    *,
    seed: int,
    phase: str = "uniform",
    on_epoch: OnEpoch | None = None,
    fabric: Fabric | None = None,
    checkpoints: Checkpoints | None = None,
) -> QuantizedNetwork:
    """Train a fixed plan for as many epochs as any other trial gets; ``network`` (full precision) is left as it is."""
    quantized = QuantizedNetwork(convert(network, plan), model, rules, space.baseline)
    fine_tune(
        quantized,
        splits,
        space.training,
        space.allocation,
        epochs=space.training.epochs,
        seed=seed,
        phase=phase,
        on_epoch=on_epoch,
        fabric=fabric,
        checkpoints=checkpoints,
    )
    return quantized


def best_uniform(problem: AllocationProblem, activity: SpikeStatistics | None) -> UniformBits:
    """The first of :func:`uniform_plans`, at the next attempt the next; InputError if none meets the budgets."""
    limit = problem.space.search.uniform_trials
    found = uniform_plans(
        problem.model,
        problem.rules,
        problem.budgets,
        limit,
        weight_tolerance=problem.settings.weight_tolerance,
        activity=activity,
    )
    if not found:
        asked = ", ".join(budget.requested for budget in problem.budgets)
        raise InputError(f"no uniform plan meets the budget {asked}; allow more, or take another method")
    return found[problem.attempt % len(found)]


def allocate_uniformly(problem: AllocationProblem) -> Iterator[QuantizedNetwork]:
    """The method ``uniform``: train :func:`best_uniform`."""
    bits = best_uniform(problem, expected_activity(problem))
    yield train_at_plan(problem, problem.plan(bits), "uniform")
