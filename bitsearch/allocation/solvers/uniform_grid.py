"""The uniform plans at a budget: the same bits for every searched layer, as many as fit."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bitsearch.allocation.loss_model import LevelCount
from bitsearch.choices import NUMBERS, Number, Span
from bitsearch.cost import AllowedBits, Budget, CostModel, SpikeStatistics
from bitsearch.pareto import ParetoFront
from bitsearch.plan import UniformBits


def axis(rules: AllowedBits, number: Number) -> list[int]:
    """The values of one number that make different plans of the searched layers, in rising order.

    Each layer gets the nearest of what it may have; of values that make the same plan, the one that most layers get.
    """
    spans: list[Span] = [getattr(rules.choices[name], number) for name in rules.searched or rules.choices]
    by_plan: dict[tuple[int, ...], list[int]] = {}
    for value in sorted({value for span in spans for value in span.values}):
        by_plan.setdefault(tuple(span.nearest(value) for span in spans), []).append(value)
    return [max(values, key=lambda value: plan.count(value)) for plan, values in by_plan.items()]


def uniform_plans(
    model: CostModel,
    rules: AllowedBits,
    budgets: Sequence[Budget],
    limit: int,
    *,
    weight_tolerance: float,
    activity: SpikeStatistics | None = None,
) -> list[UniformBits]:
    """The best uniform plans at the budgets, at most ``limit``, best first by their number of levels.

    Candidates are the feasible (w, s, T) of the grid to which nothing can be added without breaking a budget.

    Args:
        model: costs.
        rules: what each layer may get.
        budgets: the limits.
        limit: how many plans.
        weight_tolerance: share of the weights' error that counts beside that of the spikes, as
            :attr:`bitsearch.allocation_settings.Allocation.weight_tolerance`.
        activity: spike counts, where a budget depends on how often neurons fire.
    """
    levels = LevelCount(weight_tolerance)
    grid = [axis(rules, number) for number in NUMBERS]

    def bits(point: tuple[int, ...]) -> UniformBits:
        return UniformBits(weight_bits=point[0], spike_bits=point[1], time_steps=point[2])

    fits = _feasible(grid, model, rules, budgets, activity)
    feasible = {point for point, fit in zip(product(*grid), fits, strict=True) if fit}

    def can_grow(point: tuple[int, ...]) -> bool:
        larger = (
            (*point[:axis], values[values.index(point[axis]) + 1], *point[axis + 1 :])
            for axis, values in enumerate(grid)
            if point[axis] < values[-1]
        )
        return any(other in feasible for other in larger)

    def error(point: tuple[int, ...]) -> float:
        weight_bits, spike_bits, time_steps = point
        return levels.weight_loss("", weight_bits) + levels.spike_loss("", (spike_bits,) * time_steps)

    maximal = [point for point in feasible if not can_grow(point)]
    return [bits(point) for point in sorted(maximal, key=lambda point: (error(point), point))[:limit]]


def uniform_front(
    model: CostModel,
    rules: AllowedBits,
    budgets: Sequence[Budget],
    metric: str,
    *,
    weight_tolerance: float,
    activity: SpikeStatistics | None = None,
) -> list[tuple[UniformBits, float]]:
    """The uniform plans within the budgets that no cheaper one has as many levels as, with their costs, cheapest first.

    ``metric`` is what they cost; the rest is as for :func:`uniform_plans`.
    """
    levels = LevelCount(weight_tolerance)
    grid = [axis(rules, number) for number in NUMBERS]
    metrics = [budget.metric for budget in budgets]
    costs = dict(zip([*metrics, metric], _costs(grid, model, rules, [*metrics, metric], activity), strict=True))
    fits = np.logical_and.reduce([costs[budget.metric] <= budget.limit for budget in budgets], initial=True)
    front: ParetoFront[UniformBits] = ParetoFront()
    fits = np.broadcast_to(fits, costs[metric].shape)
    for point, cost, fit in zip(product(*grid), costs[metric].tolist(), fits, strict=True):
        if fit:
            weight_bits, spike_bits, time_steps = point
            error = levels.weight_loss("", weight_bits) + levels.spike_loss("", (spike_bits,) * time_steps)
            bits = UniformBits(weight_bits=weight_bits, spike_bits=spike_bits, time_steps=time_steps)
            front.add(cost, -error, bits)
    return [(bits, cost) for cost, _, bits in front.points]


def _feasible(
    grid: Sequence[Sequence[int]],
    model: CostModel,
    rules: AllowedBits,
    budgets: Sequence[Budget],
    activity: SpikeStatistics | None,
) -> NDArray[np.bool_]:
    """``[points]``, in the order of their product: whether the nearest plan meets every budget; all at once."""
    costs = _costs(grid, model, rules, [budget.metric for budget in budgets], activity)
    fits = [cost <= budget.limit for cost, budget in zip(costs, budgets, strict=True)]
    result: NDArray[np.bool_] = np.logical_and.reduce(fits)
    return result


def _costs(
    grid: Sequence[Sequence[int]],
    model: CostModel,
    rules: AllowedBits,
    metrics: Sequence[str],
    activity: SpikeStatistics | None,
) -> list[NDArray[np.float64]]:
    """By metric ``[points]``, in the order of their product: what the nearest plan costs; all at once."""
    numbers = []
    places = np.indices([len(values) for values in grid]).reshape(len(grid), -1)
    for number, values, place in zip(NUMBERS, grid, places, strict=True):
        spans = [getattr(rules.choices[layer.name], number) for layer in model.layers]
        nearest = np.array([[span.nearest(value) for span in spans] for value in values], dtype=np.float64)
        numbers.append(nearest[place])
    geometry, vectors = model.geometry(activity), model.vectors(*numbers)
    return [model.metric(metric).cost(geometry, vectors) for metric in metrics]
