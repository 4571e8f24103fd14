"""The uniform plans at a budget: the same bits for every searched layer, as many as fit."""

from collections.abc import Sequence
from itertools import product

from bitsearch.cost import Activity, Budget, CostModel, Rules
from bitsearch.plan import UniformBits
from bitsearch.space import Allocation

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
