"""Pareto fronts of points (cost, accuracy): the points that no other point dominates."""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ParetoFront(Generic[Item]):
    """A Pareto front that grows point by point; every point carries an item of the caller's.

    >>> front = ParetoFront()
    >>> front.add(2.0, 0.9, "large"), front.add(1.0, 0.8, "small"), front.add(2.5, 0.9, "dear")
    (True, True, False)
    >>> [item for _, _, item in front.points]
    ['small', 'large']
    """

    def __init__(self) -> None:
        self.points: list[tuple[float, float, Item]] = []
        """(cost, accuracy, item), the cheapest first; accuracies rise with costs."""

    def add(self, cost: float, accuracy: float, item: Item) -> bool:
        """Insert a point and remove those that it dominates; False if a point of the front dominates it.

        A point dominates another if it is at most as costly and at least as accurate: of equals, the first stays.
        """
        # Accuracies rise with costs: of all that cost at most as much, the last one is the most accurate.
        place = bisect_left(self.points, cost, key=lambda point: point[0])
        has_equal_cost = place < len(self.points) and self.points[place][0] == cost
        best = place if has_equal_cost else place - 1
        if best >= 0 and self.points[best][1] >= accuracy:
            return False
        end = place
        while end < len(self.points) and self.points[end][1] <= accuracy:
            end += 1
        self.points[place:end] = [(cost, accuracy, item)]
        return True


def hypervolume(points: Iterable[tuple[float, float]], reference: tuple[float, float]) -> float:
    """The area that points (cost, accuracy) dominate up to ``reference``: the largest cost and the least accuracy.

    Zitzler & Thiele 1998, in two dimensions: Σ (cᵢ₊₁ − cᵢ)·(aᵢ − a₀) over the front, the cheapest first.

    >>> hypervolume([(1.0, 0.5), (2.0, 1.0)], reference=(3.0, 0.0))
    1.5
    """
    largest_cost, least_accuracy = reference
    front: ParetoFront[None] = ParetoFront()
    for cost, accuracy in points:
        if cost < largest_cost and accuracy > least_accuracy:
            front.add(cost, accuracy, None)
    costs = [*(cost for cost, _, _ in front.points), largest_cost]
    return sum(
        (next_cost - cost) * (accuracy - least_accuracy)
        for (cost, next_cost), (_, accuracy, _) in zip(pairwise(costs), front.points, strict=True)
    )
