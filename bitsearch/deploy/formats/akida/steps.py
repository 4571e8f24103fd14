r"""The thresholds that an Akida layer has: evenly spaced, from one whole number on.

A layer of the first generation makes of an integer sum p the activation

.. math:: \min(\max(\lceil (p - \theta) / (\mathrm{step} \cdot 2^{4 - b}) \rceil, 0), 2^b - 1)

with a whole θ and a step in sixteenths a channel, so that with step = n/16 activation k begins at
p = θ + 1 + ⌊(k − 1)·n / 2^b⌋. A network's own thresholds are evenly spaced real numbers, rounded up to whole ones; the
nearest such sequence may put some of them a unit of the sum beside that.
Source: BrainChip's user guide of Akida, first-generation layers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

SIXTEENTHS = 16
"""Parts of a step that can be told apart; one is the smallest step."""


@dataclass(frozen=True)
class Activation:
    """What follows a layer's sums, by channel."""

    bits: int
    """b."""
    start: Integers
    """θ, ``[outputs]``."""
    steps: Integers
    """n, ``[outputs]``."""

    @property
    def levels(self) -> Integers:
        """The least sum of every activation, ``[2^b − 1, outputs]``."""
        k = np.arange((1 << self.bits) - 1)[:, None]
        return self.start + 1 + k * self.steps // (1 << self.bits)

    @property
    def act_step(self) -> npt.NDArray[np.float32]:
        """n/16, exact in float32 below 2^24 sixteenths."""
        return (self.steps / SIXTEENTHS).astype(np.float32)


def nearest_activation(bits: int, levels: Integers, bound: int) -> Activation:
    """The activation whose thresholds are the fewest units beside these.

    Args:
        bits: b.
        levels: ``[2^b − 1, outputs]``, rising; −``bound`` and ``bound`` + 1 stand for always and never.
        bound: the most that a sum can be.
    """
    parts = 1 << bits
    start, steps = np.zeros((2, levels.shape[1]), np.int64)
    for channel, exact in enumerate(levels.T):
        inside = np.flatnonzero((-bound < exact) & (exact <= bound))
        # Beyond all sums: with one such step no other activation is reached.
        candidates = np.array([parts * (2 * bound + 2)])
        if len(inside) > 1:
            first, last = inside[0], inside[-1]
            spacing = parts * int(exact[last] - exact[first]) // int(last - first)
            candidates = np.unique(np.clip(spacing + np.arange(-parts, parts + 1), 1, None))
        offsets = 1 + np.arange(len(exact)) * candidates[:, None] // parts
        # Any best start meets one of the thresholds.
        starts = exact - offsets
        reached = np.clip(starts[:, :, None] + offsets[:, None, :], -bound, bound + 1)
        distance = np.abs(reached - exact).sum(-1)
        step, meets = np.unravel_index(int(distance.argmin()), distance.shape)
        start[channel], steps[channel] = starts[step, meets], candidates[step]
    return Activation(bits, start, steps)
