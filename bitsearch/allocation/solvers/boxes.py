"""Boxes of means whose product has a limit: what branch and bound over the Bit Budget W̄·S̄·T̄ goes through.

The product's logarithm is a sum of concave functions, whose chords bound them from below (Falk and Soland 1969).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bitsearch.allocation.solvers.move_costs import Numbers


@dataclass(frozen=True)
class Box:
    """All points from ``low`` to ``high``, ``[means]``, above 0, whose product is at most ``limit``."""

    low: Numbers
    high: Numbers
    limit: float

    def tightened_limit(self) -> "Box | None":
        """Without what the others' lower bounds leave no room for; None if nothing is left."""
        high = np.minimum(self.high, [self.limit / np.delete(self.low, i).prod() for i in range(len(self.low))])
        return None if (self.low > high * (1 + 1e-9)).any() else Box(self.low, np.maximum(high, self.low), self.limit)

    def secants(self) -> tuple[Numbers, Numbers]:
        """(slopes, offsets) of the chord of each mean's logarithm over the box: inside, no logarithm is below."""
        width = self.high - self.low
        with np.errstate(invalid="ignore", divide="ignore"):
            slopes = np.where(width > 1e-9 * self.high, np.log(self.high / self.low) / width, 1 / self.high)
        return slopes, np.log(self.low) - slopes * self.low

    def split(self, point: Numbers) -> Iterator["Box"]:
        """Two boxes that meet at ``point``, on the axis where its logarithm is furthest above the chord.

        After branching at the point, the secants of both children are exact there, so that a point that breaks the
        limit is cut off.
        """
        slopes, offsets = self.secants()
        axis = int(np.argmax(np.log(point) - offsets - slopes * point))
        for low, high in ((self.low[axis], point[axis]), (point[axis], self.high[axis])):
            lower, upper = self.low.copy(), self.high.copy()
            lower[axis], upper[axis] = low, high
            yield Box(lower, upper, self.limit)
