"""An accuracy goal: how much a plan may lose against full precision.

Let d be the validation score of full precision less that of a plan, the other way round of a score whose lower values
are better, and se the standard error of d, paired over the samples. A plan is within the goal if d + z·se is at most
the goal's limit; z is 0 unless it is asked for. Of scores that are shares, such as accuracy, the limit is in percentage
points; of others, such as a mean absolute error, in the score's own unit; with a percent sign, in percent of full
precision's score. Of the plans within the goal and the budgets the cheapest is chosen. Its d is often as large as was
allowed, and it was chosen by it: what it loses on the test split, which is read once, may be more.
"""

import math
import re

from pydantic import Field

from bitsearch.errors import InputError
from bitsearch.plan import DROP, SCORE_DROP, BudgetOutcome
from bitsearch.score import ACCURACY, Score
from bitsearch.validation import Frozen, Name, Positive

_REQUEST = re.compile(
    r"\s*(?P<number>\d+\.?\d*|\.\d+)\s*(?P<percent>%)?\s*(\+\s*(?P<errors>\d*\.?\d+)\s*se)?\s*", re.IGNORECASE
)
DIGITS = 12
"""After the point, to which a drop is rounded: shares of samples that are equal differ in their last bits."""


class AccuracyGoal(Frozen):
    """The most that a plan may lose on validation, and how many standard errors are added to what it loses."""

    requested: Name
    points: Positive | None = None
    """Percentage points below full precision, or as much in the unit of a score that is no share; None where
    ``percent`` is given."""
    percent: Positive | None = None
    """Of full precision's score."""
    errors: float = Field(default=0.0, ge=0)

    @classmethod
    def parse(cls, request: str) -> "AccuracyGoal":
        """Read ``0.5`` (points, or the score's unit), ``2%`` (of full precision), or either with ``+1se``.

        Raises:
            InputError: another form, or nothing that may be lost.

        >>> from bitsearch.runs.goal import AccuracyGoal
        >>> AccuracyGoal.parse("0.5").limit(0.98), AccuracyGoal.parse("2%+1se").errors
        (0.005, 1.0)
        """
        match = _REQUEST.fullmatch(request) if len(request) <= 100 else None
        number = 0.0 if match is None else float(match["number"])
        if match is None or not 0 < number < math.inf:
            raise InputError(
                f"max drop {request[:100]!r} is not understood; give points of accuracy above 0 such as 0.5, or 2% of "
                "full precision's, and +1se behind it to add a standard error to what is lost"
            )
        kind = "percent" if match["percent"] else "points"
        return cls(requested="".join(request.split()), **{kind: number, "errors": float(match["errors"] or 0)})

    def check(self, score: Score) -> None:
        """InputError if more may be lost than a task's score can be."""
        if score.share and max(self.points or 0.0, self.percent or 0.0) > 100:
            raise InputError(f"max drop {self.requested} is all of the {score.name} and more; give at most 100")

    def limit(self, full_precision: float, score: Score = ACCURACY) -> float:
        """The most that may be lost: a share of samples, or in the unit of a score that is no share."""
        if self.points is None:
            return (self.percent or 0.0) / 100 * abs(full_precision)
        return self.points / 100 if score.share else self.points

    def outcome(self, full_precision: float, value: float, error: float, score: Score = ACCURACY) -> BudgetOutcome:
        """The goal and what a plan loses, as a budget of the plan's."""
        lost = score.rank(full_precision) - score.rank(value)
        achieved = max(0.0, round(lost + self.errors * error, DIGITS))
        limit = round(self.limit(full_precision, score), DIGITS)
        return BudgetOutcome(
            metric=DROP if score.share else SCORE_DROP,
            requested=f"max drop {self.requested}",
            limit=limit,
            achieved=achieved,
            met=achieved <= limit,
        )
