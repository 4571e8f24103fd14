"""The uniform plans at a budget: the same bits for every searched layer, as many as fit."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from bitsearch.allocation.loss_model import LevelCount
from bitsearch.allocation.solvers.options import UNCHOSEN
from bitsearch.choices import NUMBERS, Choices, Number, Span
from bitsearch.cost import AllowedBits, Budget, CostModel, SpikeStatistics
from bitsearch.cost.metric import Geometry
from bitsearch.pareto import ParetoFront
from bitsearch.plan import UniformBits

_Point = tuple[int, int, int, int]
"""Weight bits, spike bits, time steps and the width of membranes."""


def axis(rules: AllowedBits, number: Number) -> list[int]:
    """The values of one number that make different plans of the searched layers, in rising order.

    Each layer gets the nearest of what it may have; of values that make the same plan, the one that most layers get.
    """
    spans: list[Span] = [getattr(rules.choices[name], number) for name in rules.searched or rules.choices]
    by_plan: dict[tuple[int, ...], list[int]] = {}
    for value in sorted({value for span in spans for value in span.values}):
        by_plan.setdefault(tuple(span.nearest(value) for span in spans), []).append(value)
    return [max(values, key=lambda value: plan.count(value)) for plan, values in by_plan.items()]


class _Grid:
    """Every (weight bits, spike bits, time steps, width of membranes), the last UNCHOSEN where no layer chooses."""

    def __init__(self, rules: AllowedBits, weight_tolerance: float) -> None:
        self.rules, self.levels = rules, LevelCount(weight_tolerance)
        self.choosing: list[Choices] = [choices for choices in rules.choices.values() if choices.chooses_membranes]
        widths = {width for choices in self.choosing for width in choices.membranes_at(choices.time_steps.high)}
        self.axes: list[list[int]] = [*(axis(rules, number) for number in NUMBERS), sorted(widths) or [UNCHOSEN]]

    def __iter__(self) -> Iterator[_Point]:
        return product(*self.axes)  # type: ignore[return-value]  # one number an axis

    def bits(self, point: _Point) -> UniformBits:
        """Without a width where none is chosen at the point's time steps."""
        weight_bits, spike_bits, time_steps, wanted = point
        return UniformBits(
            weight_bits=weight_bits,
            spike_bits=spike_bits,
            time_steps=time_steps,
            membrane_bits=wanted if self.is_apart(point) else None,
        )

    def is_apart(self, point: _Point) -> bool:
        """True if another width makes another plan."""
        return any(len(each.membranes_at(each.time_steps.nearest(point[2]))) > 1 for each in self.choosing)

    def error(self, point: _Point) -> float:
        """By the number of levels."""
        weight_bits, spike_bits, time_steps, wanted = point
        widths = (each.membrane_at(each.time_steps.nearest(time_steps), wanted) for each in self.choosing)
        membrane = min((width for width in widths if width is not None), default=None)
        spikes = self.levels.spike_loss("", (spike_bits,) * time_steps, membrane)
        return self.levels.weight_loss("", weight_bits) + spikes

    def costs(
        self, model: CostModel, metrics: Sequence[str], activity: SpikeStatistics | None
    ) -> list[NDArray[np.float64]]:
        """By metric ``[points]``, in their order: what the nearest plan costs; all at once."""
        numbers: list[NDArray[np.float64]] = []
        places = np.indices([len(values) for values in self.axes]).reshape(len(self.axes), -1)
        names = [layer.name for layer in model.layers]
        for number, values, place in zip(NUMBERS, self.axes, places, strict=False):
            spans = [getattr(self.rules.choices[name], number) for name in names]
            nearest = np.array([[span.nearest(value) for span in spans] for value in values], dtype=np.float64)
            numbers.append(nearest[place])
        geometry = model.geometry(activity)
        widths = self._widths(names, numbers[2], places[3], geometry) if self.choosing else None
        weights, spikes, steps = numbers
        vectors = model.vectors(weights, spikes, steps, membranes=widths)
        return [model.metric(metric).cost(geometry, vectors) for metric in metrics]

    def _widths(
        self, names: Sequence[str], time_steps: NDArray[np.float64], places: NDArray[np.int64], geometry: Geometry
    ) -> NDArray[np.float64]:
        """``[points, L]``: of membranes."""
        widths = np.broadcast_to(geometry.membrane_widths, len(geometry.macs))[: len(names)]
        widths = np.repeat(widths[None], len(places), 0)
        for index, choices in enumerate(self.rules.choices[name] for name in names):
            if choices.chooses_membranes:
                one, several = (
                    np.array([choices.membrane_at(count, wanted) for wanted in self.axes[3]], dtype=np.float64)
                    for count in (1, 2)
                )
                widths[:, index] = np.where(time_steps[:, index] == 1, one[places], several[places])
        return widths


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

    Candidates are the feasible (w, s, T) of the grid to which nothing can be added without breaking a budget; where
    layers may have several widths of membranes, all have one, or what is nearest to it.

    Args:
        model: costs.
        rules: what each layer may get.
        budgets: the limits.
        limit: how many plans.
        weight_tolerance: share of the weights' error that counts beside that of the spikes, as
            :attr:`bitsearch.allocation_settings.Allocation.weight_tolerance`.
        activity: spike counts, where a budget depends on how often neurons fire.
    """
    grid = _Grid(rules, weight_tolerance)
    costs = grid.costs(model, [budget.metric for budget in budgets], activity)
    fits = np.logical_and.reduce([cost <= budget.limit for cost, budget in zip(costs, budgets, strict=True)])
    feasible = {point for point, fit in zip(grid, fits, strict=True) if fit}

    def can_grow(point: _Point) -> bool:
        larger = (
            (*point[:axis], values[values.index(point[axis]) + 1], *point[axis + 1 :])
            for axis, values in enumerate(grid.axes)
            if point[axis] != values[-1]
        )
        return any(other in feasible for other in larger)

    maximal = [point for point in feasible if not can_grow(point)]
    return [grid.bits(point) for point in sorted(maximal, key=lambda point: (grid.error(point), point))[:limit]]


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
    grid = _Grid(rules, weight_tolerance)
    metrics = [*(budget.metric for budget in budgets), metric]
    costs = dict(zip(metrics, grid.costs(model, metrics, activity), strict=True))
    fits = np.logical_and.reduce([costs[budget.metric] <= budget.limit for budget in budgets], initial=True)
    front: ParetoFront[UniformBits] = ParetoFront()
    fits = np.broadcast_to(fits, costs[metric].shape)
    for point, cost, fit in zip(grid, costs[metric].tolist(), fits, strict=True):
        # Where the width makes no difference, the last stands for all.
        if fit and (grid.is_apart(point) or point[3] == grid.axes[3][-1]):
            front.add(cost, -grid.error(point), grid.bits(point))
    return [(bits, cost) for cost, _, bits in front.points]
