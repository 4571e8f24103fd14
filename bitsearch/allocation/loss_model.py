"""Models of what an allocation of one layer adds to the training loss."""

import math
from collections.abc import Iterable, Mapping
from typing import Protocol

from bitsearch.plan import LayerPlan

EVEN_PRICES: Mapping[str, float] = {"weight": 1.0, "spike": 1.0, "time": 1.0}
"""Regularizer weights where no kind of number is dearer than another."""


class LossModel(Protocol):
    """Predicts what an allocation of one layer adds to the training loss."""

    weight_tolerance: float
    """Share of the loss of fewer weight bits that counts in :meth:`weight_loss`: training wins the rest back."""

    def weight_loss(self, name: str, weight_bits: int) -> float:
        """Loss added by quantizing the layer's weights."""

    def spike_loss(self, name: str, spike_bits: tuple[int, ...]) -> float:
        """Loss added by quantizing the layer's input, one bit width a time step."""


class LevelCount:
    """The loss model where nothing is measured: error falls with the square of the number of levels."""

    def __init__(self, weight_tolerance: float = 1.0) -> None:
        self.weight_tolerance = weight_tolerance

    def weight_loss(self, name: str, weight_bits: int) -> float:
        """Weight tolerance × 4^(−weight bits)."""
        return self.weight_tolerance * 4.0**-weight_bits

    def spike_loss(self, name: str, spike_bits: tuple[int, ...]) -> float:
        """(Σ_t 2^spike bits)^(−2): the steps' levels add up."""
        return float(sum(2**bits for bits in spike_bits)) ** -2


def layer_loss(
    loss: LossModel, name: str, weight_bits: int, spike_bits: tuple[int, ...], prices: Mapping[str, float]
) -> float:
    """Loss that one layer's bits add, divided by :func:`loss_prices` of ``weight``, ``spike`` and ``time``."""
    weight_price, spike_price = loss_prices(prices)
    return loss.weight_loss(name, weight_bits) / weight_price + loss.spike_loss(name, spike_bits) / spike_price


def loss_prices(prices: Mapping[str, float]) -> tuple[float, float]:
    """What the loss of weights, and that of spikes, are divided by, so that a dear kind is reduced first.

    Spike bits and time steps make one loss together, whose price is the geometric mean of theirs. In whole studies
    (``reports/evidence/weighting``) it makes no difference beyond the noise to divide by the price of spike bits alone,
    or by none; this is the simplest in which all three regularizer weights have a say in every method.
    """
    return prices["weight"], math.sqrt(prices["spike"] * prices["time"])


def predicted_loss(
    loss: LossModel, plan: Mapping[str, LayerPlan], layers: Iterable[str], prices: Mapping[str, float]
) -> float:
    """Loss that a plan adds: the sum of :func:`layer_loss` over these layers."""
    return sum(layer_loss(loss, name, plan[name].weight_bits, plan[name].spike_bits, prices) for name in layers)
