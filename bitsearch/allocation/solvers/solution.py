"""A plan that an integer program has come to, and how good it is known to be."""

import math
from dataclasses import dataclass

from bitsearch.plan import LayerPlan

SECONDS = 120.0
"""After this long the best plan found so far is taken."""


@dataclass(frozen=True)
class Solution:
    """A plan within the budgets."""

    plan: dict[str, LayerPlan]
    loss: float
    """Predicted, over the searched layers, by the prices."""
    optimal: bool
    """True if no plan of the program's options has less, by more than a thousandth of many layers; False where
    the time was up."""
    bound: float = -math.inf
    """No plan of the program's options has less than this."""

    @property
    def gap(self) -> float:
        """By how much a better plan may be predicted to lose less, as a share; 1 where nothing is known."""
        return min(1.0, max(0.0, 1 - self.bound / self.loss)) if self.loss > 0 else 0.0


def unfinished(solution: Solution) -> str:
    """What a warning says of a solution that is not optimal, up to what becomes of it."""
    text = f"was not solved to the end within {SECONDS:.0f} s; the best plan so far"
    if solution.gap == 1:
        return text
    return f"{text}, which no plan is predicted to lose over {100 * solution.gap:.2g} % less than,"
