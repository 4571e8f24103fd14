"""Where a trial aims that looks for the cheapest plan within an accuracy goal.

The cost is narrowed geometrically: between the cheapest plan within the goal and the dearest limit below it at which a
plan of the trial's kind missed it. By how much the two keep and miss the goal says where between them it is crossed, as
on a straight line over the logarithm of the cost. Once they have met, trials aim a step below with other settings.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from optuna.trial import FrozenTrial, TrialState

from bitsearch.plan import DROP, UniformBits
from bitsearch.study.front import TARGET, FrontAxis
from bitsearch.study.study import BASELINE, ROLE

NEAR = 1.02
"""Costs with a smaller ratio have met."""
STEP = 1.05
"""By this ratio trials aim below what they have met at."""
MARGIN = 0.25
"""The share of the way between two costs that is left to either side, whatever the straight line says."""


class Aim(NamedTuple):
    """What a trial's plan may cost, and whether other settings than the space's own are to be tried there."""

    cost: float
    varied: bool


class _Miss(NamedTuple):
    cost: float
    excess: float


def narrow(front: FrontAxis, trials: Iterable[FrozenTrial], *, uniform: bool) -> Aim:
    """The next aim of a trial that searches, or of a uniform one.

    Args:
        front: the costs between which it lies.
        trials: of the study; a plan within the goal counts whoever found it, one outside of it for its own kind.
        uniform: which kind.
    """
    trials = list(trials)
    cheapest = _cheapest(trials)
    kind = [trial for trial in trials if (trial.user_attrs.get(ROLE) == BASELINE) == uniform]
    bound = front.high if cheapest is None else cheapest.cost
    misses = [miss for trial in kind if (miss := _miss(trial)) is not None and miss.cost < bound * NEAR]
    missed = max(misses, default=None)
    running = sorted(trial.params[TARGET] for trial in kind if not trial.state.is_finished() and TARGET in trial.params)
    if cheapest is None and missed is not None:
        if missed.cost * NEAR >= front.high:
            return Aim(front.high, True)
        if len(misses) > 1 and not any(cost >= front.high for cost in running):
            return Aim(front.high, False)
    below = front.low if missed is None else missed.cost
    if missed is not None and bound <= below * NEAR:
        return Aim(max(front.low, bound / STEP), True)
    between = [below, *(cost for cost in running if below < cost < bound), bound]
    if len(between) > 2:
        low, high = max(pairwise(between), key=lambda pair: pair[1] / pair[0])
        return Aim(math.sqrt(low * high), False)
    share = 0.5
    if cheapest is not None and missed is not None:
        share = min(max(missed.excess / (missed.excess - cheapest.excess), MARGIN), 1 - MARGIN)
    return Aim(below ** (1 - share) * bound**share, False)


def next_uniform(front: FrontAxis, trials: Sequence[FrozenTrial]) -> UniformBits | None:
    """The untried uniform plan nearest to the next aim, one that would save something if there is any."""
    cheapest = _cheapest(trials)
    aim = narrow(front, trials, uniform=True).cost
    return front.next_uniform(trials, aim, None if cheapest is None else cheapest.cost)


def is_settled(front: FrontAxis, trials: Sequence[FrozenTrial]) -> bool:
    """True once nothing is left to save: a plan within the goal costs what the cheapest plan of all does."""
    cheapest = _cheapest(trials)
    return cheapest is not None and cheapest.cost <= front.low * NEAR


def tries(candidates: int) -> int:
    """Uniform plans that narrowing takes among so many: those of a bisection, and two more."""
    return min(candidates, 2 + math.ceil(math.log2(candidates + 1)))


def _cheapest(trials: Sequence[FrozenTrial]) -> _Miss | None:
    """The cheapest plan within the goal and the budgets, which misses it by 0 or less."""
    within = [
        _Miss(trial.values[1], trial.constraints[DROP])
        for trial in trials
        if trial.state == TrialState.COMPLETE and all(excess <= 0 for excess in trial.constraints.values())
    ]
    return min(within, default=None)


def _miss(trial: FrozenTrial) -> _Miss | None:
    """Of a finished trial outside of the goal: up to which cost it could have gone."""
    if trial.state != TrialState.COMPLETE or trial.constraints.get(DROP, 0.0) <= 0:
        return None
    return _Miss(max(trial.values[1], trial.params.get(TARGET, 0.0)), trial.constraints[DROP])
