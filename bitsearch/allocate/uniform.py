"""Uniform allocation: the same bits for every searched layer. The baseline that any other method has to beat."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from lightning_fabric import Fabric
from torch import nn

from bitsearch.allocate.checkpoints import Checkpoints
from bitsearch.allocate.fine_tune import fine_tune
from bitsearch.allocate.method import Problem
from bitsearch.allocate.quantized_network import QuantizedNetwork
from bitsearch.allocate.settle import expected_activity, settle_plan
from bitsearch.allocate.trainer import OnEpoch
from bitsearch.cost import Activity, Budget, CostModel, Rules
from bitsearch.data import Splits
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.space import Allocation, SearchSpace

WEIGHT_TOLERANCE = Allocation().weight_tolerance
"""Weight error counts this much of spike error in the ranking: weights recover by training, spikes do not."""


def uniform_plans(
    model: CostModel,
    rules: Rules,
    budgets: Sequence[Budget],
    limit: int,
    *,
    activity: Activity | None = None,
) -> list[UniformBits]:
    """The best uniform plans at the budgets, at most ``limit``, best first by their number of levels.

    Candidates are the feasible (w, s, T) of the grid to which nothing can be added without breaking a budget.
    ``activity`` is needed where a budget depends on how often neurons fire.
    """
    grid = [getattr(rules.ordinary, number).values for number in UniformBits.model_fields]

    def bits(point: tuple[int, ...]) -> UniformBits:
        return UniformBits(weight_bits=point[0], spike_bits=point[1], time_steps=point[2])

    def feasible(point: tuple[int, ...]) -> bool:
        plan = rules.nearest(model, bits(point), granularity="layer")
        return all(budget.met_by(model, plan, activity) for budget in budgets)

    found = {point for point in product(*grid) if feasible(point)}

    def can_grow(point: tuple[int, ...]) -> bool:
        larger = (
            (*point[:axis], values[values.index(point[axis]) + 1], *point[axis + 1 :])
            for axis, values in enumerate(grid)
            if point[axis] < values[-1]
        )
        return any(other in found for other in larger)

    def error(point: tuple[int, ...]) -> float:
        weight_bits, spike_bits, time_steps = point
        return WEIGHT_TOLERANCE * 4.0**-weight_bits + float(time_steps * 2**spike_bits) ** -2

    maximal = [point for point in found if not can_grow(point)]
    return [bits(point) for point in sorted(maximal, key=lambda point: (error(point), point))[:limit]]


def train_fixed(
    network: nn.Module,
    model: CostModel,
    rules: Rules,
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


def best_uniform(problem: Problem, activity: Activity | None) -> UniformBits:
    """The first of :func:`uniform_plans`, at the next draw the next; InputError if none meets the budgets."""
    limit = problem.space.search.uniform_trials
    found = uniform_plans(problem.model, problem.rules, problem.budgets, limit, activity=activity)
    if not found:
        asked = ", ".join(budget.requested for budget in problem.budgets)
        raise InputError(f"no uniform plan meets the budget {asked}; allow more, or take another method")
    return found[problem.draw % len(found)]


def allocate_uniformly(problem: Problem) -> Iterator[QuantizedNetwork]:
    """The method ``uniform``: train :func:`best_uniform`."""
    bits = best_uniform(problem, expected_activity(problem))
    yield settle_plan(problem, problem.plan(bits), "uniform")
