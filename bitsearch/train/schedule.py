"""Schedules of the learning rate: what it is multiplied by at every step of a training.

Each is the closed form of one of ``torch.optim.lr_scheduler``, so that a training goes on at any step of it.
"""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from bitsearch.training import Training

Factor = Callable[[int], float]
"""Of the rate, by the steps made."""

RISE = 0.3
"""Share of ``one_cycle`` in which the rate rises; this and the next two are ``OneCycleLR``'s own."""
FIRST = 1 / 25
LAST = 1e-4
MILESTONES, GAMMA = (0.5, 0.75), 0.1


def make_schedule(
    optimizer: Optimizer, training: Training, *, steps: int, steps_an_epoch: int, anneal: bool
) -> LambdaLR:
    """The schedule of a training of ``steps``; without ``anneal``, the weights' rate stays as it is.

    Groups of latents have one of their own: full speed while the budget tightens, a tenth of it at the end.
    """
    rate = weights_factor(training, steps, steps_an_epoch) if anneal else _constant

    def latent_rate(step: int) -> float:
        return min(1.0, 1.9 - 1.8 * step / steps)

    return LambdaLR(optimizer, [latent_rate if group.get("latents") else rate for group in optimizer.param_groups])


def weights_factor(training: Training, steps: int, steps_an_epoch: int) -> Factor:
    """What ``[training]`` says of a training of so many steps."""
    warm = min(round(training.warm_up * steps_an_epoch), steps // 2)
    after = _after_warm_up(training, steps - warm)
    return after if warm == 0 else lambda step: (step + 1) / (warm + 1) if step < warm else after(step - warm)


def _after_warm_up(training: Training, steps: int) -> Factor:
    if training.schedule == "cosine":
        return lambda step: 0.5 * (1 + math.cos(math.pi * step / steps))
    if training.schedule == "one_cycle":
        return _one_cycle(steps)
    if training.schedule == "multi_step":
        milestones = [round(share * steps) for share in training.milestones or MILESTONES]
        gamma = training.gamma or GAMMA
        return lambda step: gamma ** sum(step >= milestone for milestone in milestones)
    return _constant


def _one_cycle(steps: int) -> Factor:
    """Up from 1/25 of the rate, then down to a 10,000th of that, along cosines (Smith and Topin 2018).

    Momentum stays as it is.
    """
    top, end = RISE * steps - 1, steps - 1

    def factor(step: int) -> float:
        if step <= top:
            return _between(FIRST, 1.0, step / top)
        return _between(1.0, FIRST * LAST, min(1.0, (step - top) / (end - top)))

    return factor


def _between(start: float, end: float, progress: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))


def _constant(step: int) -> float:
    return 1.0
