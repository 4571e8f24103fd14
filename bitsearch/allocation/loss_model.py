"""Models of what an allocation of one layer adds to the training loss."""

import math
from collections.abc import Mapping
from typing import Protocol

from bitsearch.cost import AllowedBits
from bitsearch.plan import LayerPlan

EVEN_PRICES: Mapping[str, float] = {"weight": 1.0, "spike": 1.0, "time": 1.0}
"""Regularizer weights where no kind of number is dearer than another."""


class LossModel(Protocol):
    """Predicts what an allocation of one layer adds to the training loss."""

    weight_tolerance: float
    """Share of the loss of fewer weight bits that counts in :meth:`weight_loss`: training wins the rest back."""

    def weight_loss(self, name: str, weight_bits: int) -> float:
        """Loss added by quantizing the layer's weights."""

    def spike_loss(self, name: str, spike_bits: tuple[int, ...], membrane: int | None = None) -> float:
        """Loss added by quantizing the layer's input, one bit width a time step.

        ``membrane`` is the width of its membranes where that is chosen; None: it is the same whatever is chosen.
        """


class LevelCount:
    """The loss model where nothing is measured: error falls with the square of the number of levels."""

    def __init__(self, weight_tolerance: float = 1.0) -> None:
        self.weight_tolerance = weight_tolerance

    def weight_loss(self, name: str, weight_bits: int) -> float:
        """Weight tolerance × 4^(−weight bits)."""
        return self.weight_tolerance * 4.0**-weight_bits

    def spike_loss(self, name: str, spike_bits: tuple[int, ...], membrane: int | None = None) -> float:
        """(Σ_t 2^spike bits)^(−2): the steps' levels add up. A membrane of m bits adds 4^(2 − m), its unit squared."""
        levels = float(sum(2**bits for bits in spike_bits)) ** -2
        return levels if membrane is None else levels + 4.0 ** (2 - membrane)


def layer_loss(
    loss: LossModel,
    name: str,
    weight_bits: int,
    spike_bits: tuple[int, ...],
    prices: Mapping[str, float],
    membrane: int | None = None,
) -> float:
    """Loss that one layer's bits add, divided by :func:`loss_prices` of ``weight``, ``spike`` and ``time``.

    The width of its membranes, where it is chosen, belongs to its spikes.
    """
    weight_price, spike_price = loss_prices(prices)
    spikes = loss.spike_loss(name, spike_bits, membrane)
    return loss.weight_loss(name, weight_bits) / weight_price + spikes / spike_price


def loss_prices(prices: Mapping[str, float]) -> tuple[float, float]:
    """What the loss of weights, and that of spikes, are divided by, so that a dear kind is reduced first.

    Spike bits and time steps make one loss together, whose price is the geometric mean of theirs. In whole studies
    (``reports/evidence/weighting``) it makes no difference beyond the noise to divide by the price of spike bits alone,
    or by none; this is the simplest in which all three regularizer weights have a say in every method.
    """
    return prices["weight"], math.sqrt(prices["spike"] * prices["time"])


def predicted_loss(
    loss: LossModel, plan: Mapping[str, LayerPlan], rules: AllowedBits, prices: Mapping[str, float]
) -> float:
    """Loss that a plan adds: the sum of :func:`layer_loss` over the searched layers."""
    layers = ((name, plan[name], rules.membrane_of(name, plan[name])) for name in rules.searched)
    return sum(
        layer_loss(loss, name, layer.weight_bits, layer.spike_bits, prices, membrane)
        for name, layer, membrane in layers
    )
