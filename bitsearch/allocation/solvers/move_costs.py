"""What budgets cost after every single move: all moves at once, each by the layers that it takes along."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitsearch.cost.metric import Bits, Geometry, Metric

Numbers = NDArray[np.float64]

PEAK_POWER = 16.0
"""While a peak over layers exceeds its limit, a power mean with this exponent replaces it, so that savings in other
layers count too."""


@dataclass(frozen=True)
class Group:
    """Layers that one move takes along, since they share the number that it changes; the first stands for all."""

    row: int
    """Which kind of number that is."""
    slots: slice
    """The kinds of moves, in the order of :attr:`bitsearch.allocation.moves.Move.latent_index`."""
    layers: NDArray[np.int64]
    """Indices, at least two."""


def costs_after(
    metrics: Sequence[Metric],
    geometry: Geometry,
    here: Bits,
    there: Bits,
    shape: tuple[int, int],
    groups: Sequence[Group],
    *,
    pressure: bool,
) -> tuple[Numbers, Numbers]:
    """Costs of bits ``[..., L]``: ``[budgets, ...]`` now, ``[budgets, ..., slots, layers]`` after every move.

    Args:
        metrics: of the budgets, one each.
        geometry: of the network.
        here: bits before the moves.
        there: of every move of every layer ``[slots, L]``, the bits of this layer after it.
        shape: (slots, layers), those of ``there`` without what is not quantized.
        groups: layers that move together; the column of the first has their cost.
        pressure: replace what would not move in spite of a saving: a peak, by the power mean over the layers.
    """
    now, after = [], []
    layers, before = shape[1], here.weights.shape[:-1]
    for metric in metrics:
        totals, totals_after = [], []
        for term, new in zip(metric.terms(geometry, here), metric.terms(geometry, there), strict=True):
            new = np.broadcast_to(new, there.weights.shape)[..., :layers]
            if metric.peak:
                total, changed = _peaks(term, new, metric.joined(geometry), groups, pressure=pressure)
                totals.append(total)
                totals_after.append(changed)
            else:
                total = term.sum(-1)
                totals.append(total)
                changed = total[..., None, None] - term[..., None, :layers] + new
                for group in groups:
                    rest = (total - term[..., group.layers].sum(-1))[..., None]
                    changed[..., group.slots, group.layers[0]] = rest + new[group.slots, group.layers].sum(-1)
                totals_after.append(changed)
        now.append(np.broadcast_to(metric.total(*totals), before))
        after.append(np.broadcast_to(metric.total(*totals_after), (*before, *shape)))
    return np.array(now), np.array(after)


def _peaks(
    term: Numbers, new: Numbers, joined: Numbers, groups: Sequence[Group], *, pressure: bool
) -> tuple[Numbers, Numbers]:
    """The peak ``[...]`` of terms ``[..., L]``, and ``[..., slots, layers]`` after every move.

    ``joined``, ``[L, streams]``, adds the terms of layers up that count together; ``new`` are those of single layers.
    """
    layers, column = new.shape[-1], joined.argmax(-1)
    sums = term @ joined
    difference = new - term[..., None, :layers]
    moved = sums[..., None, column[:layers]] + difference
    # Powers of shares of the peak are within range.
    scale = sums.max(-1, keepdims=True)[..., None] if pressure else np.ones((1, 1))

    def total(values: Numbers) -> Numbers:
        """Of the sums of all streams, ``[..., slots, streams]``."""
        if not pressure:
            return np.asarray(values.max(-1))
        powers = (np.maximum(values, 0.0) / scale) ** PEAK_POWER
        return np.asarray(powers.sum(-1) ** (1 / PEAK_POWER) * scale[..., 0])

    if pressure:
        powers = (sums[..., None, :] / scale) ** PEAK_POWER
        rest = np.maximum(powers.sum(-1, keepdims=True) - powers[..., column[:layers]], 0.0)
        changed = scale * (rest + (moved / scale) ** PEAK_POWER) ** (1 / PEAK_POWER)
    else:
        changed = np.maximum(_largest_of_others(sums)[..., None, column[:layers]], moved)
    for group in groups:
        together = difference[..., group.slots, group.layers] @ joined[group.layers]
        changed[..., group.slots, group.layers[0]] = total(sums[..., None, :] + together)
    return total(sums[..., None, :])[..., 0], changed


def _largest_of_others(term: Numbers) -> Numbers:
    """``[..., streams]``: the largest of all others."""
    if term.shape[-1] < 2:
        return np.zeros_like(term)
    second, first = np.moveaxis(np.sort(term)[..., -2:, None], -2, 0)
    # Where two share the largest, the second largest is as large.
    result: Numbers = np.where(term == first, second, first)
    return result
