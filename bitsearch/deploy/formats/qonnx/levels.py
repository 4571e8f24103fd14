"""Where a neuron's codes change, as its current does: the whole neuron, all its time steps, as thresholds.

A static current is the same at every time step, so that code_t is a function of it alone. Where the codes of all
earlier steps stay as they are, a membrane never falls as the current rises; so code_t rises there from level to level,
and each level begins at a current that halving an interval finds. Where an earlier code changes, code_t may also fall.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from bitsearch.deploy.integer.operations.layer_neuron import integer_spikes
from bitsearch.deploy.integer.operations.operation import OperationRanges
from bitsearch.errors import InputError

Codes = Callable[[Tensor], Tensor]
"""From currents ``[n]`` to codes ``[T, n]``."""
MOST_PIECES = 1 << 16


@dataclass(frozen=True)
class Levels:
    """A step function of a current: ``base`` at the least one, plus the jumps at currents up to it."""

    base: int
    currents: Tensor
    """Rising, int64 ``[n]``."""
    jumps: Tensor
    """Not zero, int64 ``[n]``."""

    @property
    def rising(self) -> Tensor:
        """A current for each level that is gained there."""
        return torch.repeat_interleave(self.currents, self.jumps.clamp_min(0))

    @property
    def falling(self) -> Tensor:
        """A current for each level that is lost there."""
        return torch.repeat_interleave(self.currents, (-self.jumps).clamp_min(0))

    @property
    def range(self) -> tuple[int, int]:
        """The least and the largest value."""
        values = torch.cat([torch.zeros(1, dtype=torch.int64), self.jumps.cumsum(0)]) + self.base
        return int(values.min()), int(values.max())


def neuron_levels(name: str, layer_name: str, ranges: OperationRanges) -> list[Levels]:
    """The code of every time step, of a layer whose current is static, as a function of that current.

    Raises:
        InputError: more levels than a graph should have; names the operation.
    """
    layer, numbers = ranges.program.layers[layer_name], ranges.program.numbers[layer_name]
    (current,), widths = ranges.inputs, ranges.widths
    assert widths is not None
    assert layer.frames is None

    def codes(currents: Tensor) -> Tensor:
        steps: list[Tensor] = []

        def observe(quantity: str, _: int, integers: Tensor) -> None:
            if quantity == "spikes":
                steps.append(integers.long())

        integer_spikes(layer, numbers, torch.int64, currents, current, widths, observe)
        return torch.stack(steps)

    starts = _pieces(name, codes, current.low, current.high, layer.time_steps)
    return [_levels(starts, row) for row in codes(starts)]


def weighted_levels(levels: list[Levels], weights: list[int]) -> Levels:
    """Σ n_t·code_t as one step function."""
    starts = torch.cat([one.currents for one in levels]).unique()
    jumps = torch.zeros_like(starts)
    for one, weight in zip(levels, weights, strict=True):
        jumps.index_add_(0, torch.searchsorted(starts, one.currents), one.jumps * weight)
    changed = jumps != 0
    base = sum(weight * one.base for one, weight in zip(levels, weights, strict=True))
    return Levels(base, starts[changed], jumps[changed])


def first_reaching(function: Codes, goals: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The least integers in ``low`` … ``high`` + 1 at which a function that never falls reaches ``goals``, by halving.

    Args:
        function: of int64 tensors of the shape of ``goals``; never asked beyond ``high``.
        goals: what is to be reached.
        low: of every interval, int64 in the same shape.
        high: likewise; ``high`` + 1 is returned where the goal is never reached.
    """
    below, reached = low - 1, high + 1
    while bool((reached - below > 1).any()):
        middle = (below + reached) >> 1
        # Where an interval is done, its middle is its lower end, which may lie outside.
        enough = function(middle.clamp(low, high)) >= goals
        open_ = reached - below > 1
        reached = torch.where(open_ & enough, middle, reached)
        below = torch.where(open_ & ~enough, middle, below)
    return reached


def _pieces(name: str, codes: Codes, low: int, high: int, time_steps: int) -> Tensor:
    """The currents from each of which on all codes are the same until the next one."""
    starts = torch.tensor([low])
    for t in range(time_steps):
        ends = torch.cat([starts[1:] - 1, torch.tensor([high])])
        first, last = codes(starts)[t], codes(ends)[t]
        gained = last - first
        pieces = torch.repeat_interleave(torch.arange(len(starts)), gained)
        if len(pieces) + len(starts) > MOST_PIECES:
            raise InputError(
                f"{name!r} takes more than {MOST_PIECES} thresholds for its {time_steps} time steps; give it fewer "
                "spike bits or time steps"
            )
        count = torch.arange(len(pieces)) - (gained.cumsum(0) - gained)[pieces]
        goals = first[pieces] + 1 + count
        positions = first_reaching(partial(_code_of_step, codes, t), goals, starts[pieces], ends[pieces])
        starts = torch.cat([starts, positions]).unique()
    return starts


def _code_of_step(codes: Codes, t: int, currents: Tensor) -> Tensor:
    return codes(currents)[t]


def _levels(starts: Tensor, codes: Tensor) -> Levels:
    jumps = codes.diff()
    changed = jumps != 0
    return Levels(int(codes[0]), starts[1:][changed], jumps[changed])
