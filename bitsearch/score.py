"""What networks are judged by: the score of a task, its unit and direction, and what was measured of it."""

from typing import Literal

from pydantic import Field

from bitsearch.validation import Frozen, Name, Share

Number = Field(default=None, allow_inf_nan=False)


class Score(Frozen):
    """How a task's score is called, shown and compared."""

    name: Name = "accuracy"
    share: bool = True
    """Shown in percent."""
    unit: str = Field(default="", max_length=40)
    """Of a score that is no share; empty where it has none."""
    direction: Literal["up", "down"] = "up"
    """``up``: higher is better."""

    def rank(self, value: float) -> float:
        """The value by which scores are compared: higher is better in either direction."""
        return value if self.direction == "up" else -value


ACCURACY = Score()


class Accuracy(Frozen):
    """Share of correctly classified samples, by the split it was measured on."""

    validation: Share | None = None
    test: Share | None = None
    soft_validation: Share | None = None
    """Accuracy with soft weight steps, before training replaced them by the hard steps of ``validation``."""

    @property
    def score(self) -> Score:
        """What these numbers are."""
        return ACCURACY


class MeasuredScore(Frozen):
    """A score that is no accuracy, by the split it was measured on."""

    score: Score
    validation: float | None = Number
    test: float | None = Number
    soft_validation: float | None = Number
    """With soft weight steps, as in :class:`Accuracy`."""


Measured = Accuracy | MeasuredScore


def measured(
    score: Score, *, validation: float | None = None, test: float | None = None, soft_validation: float | None = None
) -> Measured:
    """What was measured of a score; of accuracy, an :class:`Accuracy`."""
    values = {"validation": validation, "test": test, "soft_validation": soft_validation}
    return Accuracy(**values) if score == ACCURACY else MeasuredScore(score=score, **values)
