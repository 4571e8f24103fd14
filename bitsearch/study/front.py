"""Where on the Pareto front a trial aims: the cost that its plan may have on the front's axis.

A study that searches one budget alone ends with a front of one or two points. Here a share of its trials goes where the
front is least certain: between two costs that have been tried, the hypervolume still to be won is at most the rectangle
of their distance, on a logarithmic scale, and of what the score rises in between. A score is known but for its standard
error σ on the validation split: a plan that is equally good is expected to add E[max(0, σ·Z)] = σ/√(2π) to the best
that was measured. Up to the budget every rectangle is higher by so much, so that trials neither crowd between an
unlucky plan and a lucky one, nor leave out where the front seems flat; beyond it there is something to win only where
the score still rises.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Annotated

from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field, model_validator

from bitsearch.plan import UniformBits
from bitsearch.study.study import BASELINE, ROLE, UNIFORM, is_intermediate
from bitsearch.validation import Cost, Frozen, Name

TARGET = "cost_target"
"""The trials' parameter: what the plan may cost on the front's axis."""

EXPECTED_GAIN = 1 / math.sqrt(2 * math.pi)
"""Of an equally good plan over what was measured, in standard errors: only what is better counts."""

Point = tuple[float, float | None]
"""(cost, validation score as it is ranked, or None while a trial runs)."""


class UniformCandidate(Frozen):
    """A uniform plan that no cheaper one is expected to equal, and its cost on the axis."""

    bits: UniformBits
    cost: Cost


class FrontAxis(Frozen):
    """The costs between which a front is searched.

    Args:
        metric: of the axis.
        low: the cheapest plan's cost.
        high: the baseline's, the dearest plan's if that is less, or the budget's limit if that is more.
        limit: the budget's, where the axis has one.
        least: score of guessing (higher is better), which the cheapest plan is taken to have until something is known.
        most: score of full precision, which the dearest is taken to have.
        error: standard error of a score so near to full precision, on the validation split.
        uniform: the uniform plans along the axis, cheapest first.
    """

    metric: Name
    low: Cost
    high: Cost
    limit: Cost | None = None
    least: Annotated[float, Field(allow_inf_nan=False)]
    most: Annotated[float, Field(allow_inf_nan=False)]
    error: Cost = 0.0
    uniform: tuple[UniformCandidate, ...] = ()
    trials: int = Field(ge=0)
    """Of the trials that search, how many are short ones along the front."""
    uniform_trials: int = Field(ge=0)
    """Likewise of the uniform ones."""
    stops: tuple[Cost, ...] = ()
    """The limits of a sweep, to which the trials go in turns, in place of the largest rectangle."""
    narrows: bool = False
    """True where all of them look for the cheapest plan within an accuracy goal; see
    :mod:`bitsearch.study.narrowing`."""

    @property
    def has_short_trials(self) -> bool:
        """True where trials along the front go on from others: not where each is to be compared with all others."""
        return not self.stops and not self.narrows

    @model_validator(mode="after")
    def _ordered(self) -> "FrontAxis":
        if not 0 < self.low <= (self.limit or self.low) <= self.high:
            raise ValueError(f"low {self.low}, limit {self.limit} and high {self.high} are not in this order")
        return self

    @property
    def distribution(self) -> FloatDistribution:
        """Of the parameter :data:`TARGET`."""
        return FloatDistribution(self.low, self.high, log=True)

    def next_target(self, points: Iterable[Point], spans: Sequence[tuple[float, float]] = ()) -> float:
        """The middle of the largest rectangle that the points leave between the axis' ends.

        Args:
            points: what is known, as :meth:`points`.
            spans: costs between which a search ends with a plan that is there already, as :meth:`spans`.
        """
        # Where nothing can be won any more, the widest gap is what is known least of.
        low, high = max(self._gaps(points, spans), key=lambda gap: (gap[0], gap[2] / gap[1]))[1:]
        return min(max(math.sqrt(low * high), self.low), self.high)

    def next_uniform(
        self, trials: Sequence[FrozenTrial], aim: float | None = None, below: float | None = None
    ) -> UniformBits | None:
        """The untried uniform plan nearest to ``aim``; None if all have been tried.

        By default the cheapest plan comes first, where the front ends, and then what is nearest to the middle of the
        largest rectangle between uniform plans. With an ``aim``, one that costs less than ``below`` comes first.
        """
        begun = [_uniform_bits(trial) for trial in trials]
        untried = [candidate for candidate in self.uniform if candidate.bits not in begun]
        if aim is None and untried and untried[0] == self.uniform[0]:
            return untried[0].bits
        cheaper = [candidate for candidate in untried if below is None or candidate.cost < below]
        baselines = [trial for trial in trials if trial.user_attrs.get(ROLE) == BASELINE]
        target = self.next_target(self.points(baselines), self.spans(baselines)) if aim is None else aim
        nearest = min(cheaper or untried, key=lambda candidate: abs(math.log(candidate.cost / target)), default=None)
        return None if nearest is None else nearest.bits

    def points(self, trials: Iterable[FrozenTrial]) -> list[Point]:
        """What is known of all trials, of what they left on their way, and of where those that run aim.

        A plan that costs less than its trial was allowed is known to be what a search for that much ends with, too.
        """
        points: list[Point] = []
        for trial, aim in self._aims(trials):
            if trial.state == TrialState.COMPLETE:
                accuracy, cost = trial.values
                points.append((cost, accuracy))
                if aim > cost and not is_intermediate(trial):
                    points.append((aim, accuracy))
            elif not trial.state.is_finished() and aim > 0:
                points.append((aim, None))
        return points

    def spans(self, trials: Iterable[FrozenTrial]) -> list[tuple[float, float]]:
        """(cost, what it was allowed) of the plans that cost less."""
        finished = ((trial, aim) for trial, aim in self._aims(trials) if trial.state == TrialState.COMPLETE)
        return [
            (trial.values[1], aim) for trial, aim in finished if aim > trial.values[1] and not is_intermediate(trial)
        ]

    def _aims(self, trials: Iterable[FrozenTrial]) -> Iterator[tuple[FrozenTrial, float]]:
        """Every trial, and what its plan may cost on the axis; 0 where that is not known."""
        costs = {candidate.bits: candidate.cost for candidate in self.uniform}
        for trial in trials:
            bits = _uniform_bits(trial)
            yield trial, trial.params.get(TARGET, 0.0 if bits is None else costs.get(bits, 0.0))

    def _gaps(self, points: Iterable[Point], spans: Sequence[tuple[float, float]]) -> list[tuple[float, float, float]]:
        """(area, lower cost, higher cost) of the rectangles between neighbours on the axis."""
        points = list(points)
        inside = sorted(
            ((max(cost, self.low), accuracy) for cost, accuracy in points if cost < self.high),
            key=lambda point: point[0],
        )
        stairs: list[tuple[float, float | None]] = [(self.low, self.least)]
        for cost, accuracy in inside:
            highest = max(step for _, step in stairs if step is not None)
            stairs.append((cost, None if accuracy is None else max(highest, accuracy)))
        highest = max(step for _, step in stairs if step is not None)
        beyond = [accuracy for cost, accuracy in points if cost >= self.high and accuracy is not None]
        stairs.append((self.high, max([highest, *(beyond or [self.most])])))
        heights = _filled([step for _, step in stairs])
        costs = [cost for cost, _ in stairs]
        end = self.high if self.limit is None else self.limit
        gaps = []
        for (low, high), (before, after) in zip(pairwise(costs), pairwise(heights), strict=True):
            is_known = low >= end or any(cost <= low and high <= aim for cost, aim in spans)
            noise = 0.0 if is_known else EXPECTED_GAIN * self.error
            gaps.append((math.log(high / low) * (after - before + noise), low, high))
        return gaps


def _uniform_bits(trial: FrozenTrial) -> UniformBits | None:
    """Those that a uniform trial was told to train; studies of earlier versions write them in another notation."""
    return UniformBits.parse(trial.user_attrs[UNIFORM]) if UNIFORM in trial.user_attrs else None


def _filled(heights: Sequence[float | None]) -> list[float]:
    """With what is not known yet halfway between its neighbours."""
    filled = list(heights)
    for index, height in enumerate(filled):
        if height is None:
            before = filled[index - 1]
            after = next(later for later in filled[index:] if later is not None)
            assert before is not None
            filled[index] = (before + after) / 2
    return [height for height in filled if height is not None]
