r"""Rounding offsets: whether each weight is rounded down or up, learned (Nagel et al. 2020, "AdaRound", equation 21).

.. math::
    \tilde W = s \cdot (\underline{w} + \delta \cdot h(V)), \qquad
    h(V) = \mathrm{clip}(\sigma(V)(\zeta - \gamma) + \gamma,\, 0,\, 1)

with w̲ the level below W / s and δ the distance to the next one: 1, and 2 of a single bit, whose levels are ±1.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bitsearch.quant.uniform import q_max

if TYPE_CHECKING:
    from bitsearch.layers.quantized import QuantizedLayer

ZETA, GAMMA = 1.1, -0.1
"""The sigmoid is stretched, so that it reaches 0 and 1."""
INSIDE = 0.49
"""Of a level's distance to its neighbours: a weight stays so near to the level that was chosen for it."""


class RoundingOffsets(nn.Module):
    """Stands for a layer's weight quantizer while V is learned; :meth:`harden` leaves an ordinary layer behind.

    Args:
        layer: with a step size for its weights, which stays a parameter of it.
    """

    def __init__(self, layer: "QuantizedLayer") -> None:
        super().__init__()
        bits = layer.layer_plan.weight_bits
        # In a list: as a module of its own the layer would be a part of its own part.
        self._layers = [layer]
        self.largest, self.distance = q_max(bits, signed=True), 2.0 if bits == 1 else 1.0
        with torch.no_grad():
            scaled = self._scaled()
            below = -self.largest + self.distance * torch.floor((scaled + self.largest) / self.distance)
            self.below = below.clamp(max=self.largest - self.distance)
            share = (scaled - self.below) / self.distance
            self.offsets = nn.Parameter(torch.logit((share - GAMMA) / (ZETA - GAMMA)))

    def _scaled(self) -> Tensor:
        layer = self._layers[0]
        return (layer.output_first(layer.weight) / layer.weight_step).clamp(-self.largest, self.largest)

    @property
    def share_up(self) -> Tensor:
        """h(V): 0 for the level below, 1 for the next one, shaped like the weight, outputs first."""
        return (torch.sigmoid(self.offsets) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)

    def forward(self, weight: Tensor) -> Tensor:
        """The weights between their levels, in the layer's layout; by V alone, whatever ``weight`` is."""
        layer = self._layers[0]
        return layer.in_layout(layer.weight_step * (self.below + self.distance * self.share_up))

    def undecided(self, sharpness: float) -> Tensor:
        """Σ 1 − |2·h(V) − 1|^β: what is added to the loss so that every weight comes to rest on a level."""
        return (1 - (2 * self.share_up - 1).abs().pow(sharpness)).sum()

    @torch.no_grad()
    def harden(self) -> None:
        """Put every weight where the quantizer rounds it to the level that was chosen, as near to itself as that is.

        What the level leaves of a weight is kept, for training to go on from.
        """
        layer = self._layers[0]
        chosen = self.below + self.distance * (self.share_up >= 0.5)
        reach = INSIDE * self.distance
        nearest = self._scaled().clamp(chosen - reach, chosen + reach)
        layer.weight.copy_(layer.in_layout(layer.weight_step * nearest))
        layer.soft_weights = None
