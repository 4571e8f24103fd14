"""What budgets cost after every single move: all moves at once, each by the layers that it takes along."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitsearch.cost import METRICS, Budget
from bitsearch.cost.metrics import Bits, Geometry

Numbers = NDArray[np.float64]

PEAK_POWER = 16.0
"""While a peak over layers exceeds its limit, a power mean with this exponent replaces it, so that savings in other
layers count too."""


@dataclass(frozen=True)
class Group:
    """Layers that one move takes along, since they share the number that it changes; the first stands for all."""

    slots: slice
    """The kinds of moves, in the order of :attr:`bitsearch.allocate.moves.Move.latent_index`."""
    layers: NDArray[np.int64]
    """Indices, at least two."""


def costs_after(
    budgets: Sequence[Budget],
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
        budgets: whose metrics are counted.
        geometry: of the network.
        here: bits before the moves.
        there: of every move of every layer ``[slots, L]``, the bits of this layer after it.
        shape: (slots, layers), those of ``there`` without what is not quantized.
        groups: layers that move together; the column of the first has their cost.
        pressure: replace what would not move in spite of a saving: a peak, by the power mean over the layers.
    """
    now, after = [], []
    layers, before = shape[1], here.weights.shape[:-1]
    for budget in budgets:
        metric = METRICS[budget.metric]
        totals, totals_after = [], []
        for term, new in zip(metric.terms(geometry, here), metric.terms(geometry, there), strict=True):
            new = np.broadcast_to(new, there.weights.shape)[..., :layers]
            if metric.peak and pressure:
                top = term.max(-1, keepdims=True)[..., None]
                power, new_power = (term[..., None, :] / top) ** PEAK_POWER, (new / top) ** PEAK_POWER
                summed = power.sum(-1, keepdims=True)
                changed = summed - power[..., :layers] + new_power
                for group in groups:
                    rest = np.maximum(summed[..., 0] - power[..., group.layers].sum(-1), 0.0)
                    moved = new_power[..., group.slots, group.layers].sum(-1)
                    changed[..., group.slots, group.layers[0]] = rest + moved
                totals.append((top * summed ** (1 / PEAK_POWER))[..., 0, 0])
                totals_after.append(top * changed ** (1 / PEAK_POWER))
            elif metric.peak:
                totals.append(term.max(-1))
                changed = np.maximum(_largest_of_others(term)[..., None, :layers], new)
                for group in groups:
                    rest = np.delete(term, group.layers, -1).max(-1, initial=0.0)[..., None]
                    moved = new[group.slots, group.layers].max(-1)
                    changed[..., group.slots, group.layers[0]] = np.maximum(rest, moved)
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


def _largest_of_others(term: Numbers) -> Numbers:
    """``[..., L]``: the largest of all other layers."""
    if term.shape[-1] < 2:
        return np.zeros_like(term)
    second, first = np.moveaxis(np.sort(term)[..., -2:, None], -2, 0)
    # Where two layers share the largest, the second largest is as large.
    return np.where(term == first, second, first)
