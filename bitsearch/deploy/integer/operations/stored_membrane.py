"""Membranes of a width (:mod:`bitsearch.quant.membrane_width`): how currents come into their unit, and their bounds."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bitsearch.deploy.integer.bounds import Range, check_width
from bitsearch.deploy.integer.fields import DECAY_FRACTION
from bitsearch.deploy.integer.packed_layer import LayerNumbers, PackedLayer
from bitsearch.deploy.integer.rounding import half, odd_part, quotient
from bitsearch.quant.membrane_width import MembraneWidth


@dataclass(frozen=True)
class StoredCurrents:
    """A current x of fraction f as sat(⌊(2·x·factor + divisor) / (2·divisor)⌋) units: x·2^−f / (s / n), rounded.

    x is cut at ±``limit`` before, which is beyond what saturates, so that products stay narrow.
    """

    width: MembraneWidth
    fraction: int
    """f."""
    factor: int
    divisor: int
    limit: int

    @classmethod
    def of(cls, layer: PackedLayer, numbers: LayerNumbers, x: Range) -> "StoredCurrents":
        """For a layer's current, whose fraction is that of ``x``, and that of its bins' means."""
        width, fraction = layer.membrane, x.fraction + layer.finer
        places = layer.step_fraction - fraction + width.units.bit_length() - 1
        factor, divisor = 1 << max(places, 0), int(numbers.steps[0]) << max(-places, 0)
        limit = -(-(width.most + 2) * divisor // factor)
        return cls(width, fraction, factor, divisor, limit)

    def integers(self, x: Tensor) -> Tensor:
        """Of int64 currents; a shift where the divisor is a power of two."""
        sums = x.clamp(-self.limit, self.limit) * (2 * self.factor) + self.divisor
        odd, places = odd_part(2 * self.divisor)
        sums >>= places
        whole = sums if odd == 1 else torch.div(sums, odd, rounding_mode="floor")
        return whole.clamp_(-self.width.most - 1, self.width.most)

    def float64(self, x: Tensor) -> Tensor:
        """Of real currents, float64: whole numbers of units."""
        scaled = x.clamp(-self.limit * 2.0**-self.fraction, self.limit * 2.0**-self.fraction) * 2.0**self.fraction
        whole = quotient(scaled * (2 * self.factor) + self.divisor, 2.0 * self.divisor)
        return whole.clamp(-self.width.most - 1, self.width.most)

    @property
    def bound(self) -> int:
        """The most that the numerator can be."""
        return self.limit * 2 * self.factor + self.divisor


def stored_bound(name: str, layer: PackedLayer, currents: StoredCurrents, x: Range) -> int:
    """Bound on what the neuron forms, in units of its membrane; InputError, naming the run, if it is too wide."""
    width = layer.membrane
    widest = max((end - first for first, end in layer.bins), default=1)
    # What the mean of a bin forms, a sum that has not saturated, that and half a step, and a residual times its decay.
    bound = max(
        (x.magnitude * widest << layer.finer + 1) + widest,
        currents.limit + 1,
        currents.bound,
        2 * (2 * width.most + 2) + width.units,
        (width.most + 1) * layer.decay + half(DECAY_FRACTION),
    )
    check_width(name, bound)
    return bound
