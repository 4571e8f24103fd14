"""What a cost metric is: counts and bits of all layers as vectors, a term for each layer, and a total of the terms.

The terms are summed over the layers (or, for a peak, the largest counts), and a function of these totals is the
network's cost. One formula gives a layer's cost, the network's cost, and the effect of changing a layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bitsearch.cost.target import Target
from bitsearch.declared_metric import DeclaredMetric

Vector = Any
"""A NumPy array or a torch tensor whose last axis is the layers; the formulas use only what both understand."""
Terms = tuple[Vector, ...]
"""What every layer adds to the totals that a metric is a function of."""


@dataclass(frozen=True)
class Geometry:
    """Counts and rates of all layers as vectors of shape [L], and the hardware target."""

    macs: Vector
    weights: Vector
    inputs: Vector
    sent: Vector
    """Spikes of a time step: as many as inputs, and none of a layer that reads those of another's neurons."""
    membranes: Vector
    """One a neuron: as many as ``sent``, but where neurons fire in front of pooling or sums."""
    call_sent: Vector
    """Spikes of the largest call alone, of a layer that is called several times."""
    call_membranes: Vector
    """Membranes, of that call."""
    outputs: Vector
    count_mask: Vector
    """1 for a layer in the bit and operation counts, 0 for a layer left out of them."""
    firing_rates: Vector
    """Share of non-zero spikes; NaN if not measured."""
    synaptic_rates: Vector
    """Share of the MACs whose spike is not zero; NaN if not measured."""
    target: Target
    quantized: Vector = 1.0
    """1 for a layer with bits, 0 for one without, which has no step sizes and no membrane."""
    on_chip: Vector = 0.0
    """Neurons on the chip: ``membranes``, but none where the network's own input is read."""
    step_owners: Vector = 1.0
    """1 for a layer with step sizes of its own, 0 for one without bits, or that reads another's neurons."""
    steps_in_time: Vector = 1.0
    """1 for a layer with a step size a time step, 0 for one with one for all of them."""
    addends: Vector = 0.0
    """Weights of one output: the most products that a layer adds up."""
    signed: Vector = 0.0
    """1 for a layer whose spikes have a sign."""
    framed: Vector = 0.0
    """1 for a layer that adds up one time step at a time, since its input has a time axis."""
    widths: Vector = None
    """Bits of the membranes where the allocation says none; None: the target's ``membrane_bits`` everywhere."""
    streams: Vector = None
    """``[L, streams]``: 1 where a layer reads a stream of values, else 0; None: each reads one of its own."""

    @property
    def membrane_widths(self) -> Vector:
        """Of every layer's membranes, where the allocation says none."""
        return self.target.membrane_bits if self.widths is None else self.widths

    def membrane_bits(self, bits: "Bits") -> Vector:
        """Of every layer's membranes."""
        return self.membrane_widths if bits.membranes is None else bits.membranes

    def stored_steps(self, time_steps: Vector) -> Vector:
        """Time steps whose spikes take memory at once: what has no bits works on one frame after the other."""
        return time_steps * self.quantized + (1 - self.quantized)


@dataclass(frozen=True)
class Bits:
    """The allocation of every layer as vectors of shape [..., L]."""

    weights: Vector
    spikes: Vector
    """Averaged over the layer's time steps."""
    time_steps: Vector
    code_sums: Vector = None
    """By :meth:`bitsearch.cost.geometry.LayerGeometry.code_sum`; None of spikes with the same bits at every step."""
    membranes: Vector = None
    """Bits of the membranes; None: as :attr:`Geometry.widths`."""


@dataclass(frozen=True)
class Metric:
    """A cost metric: its name, unit and formula."""

    name: str
    unit: str
    title: str
    definition: str
    """One sentence for the report."""
    terms: Callable[[Geometry, Bits], Terms]
    total: Callable[..., Vector] = lambda term: term
    """Computes the network's cost from the totals of the terms."""
    peak: bool = False
    """True if the network's total is the largest layer's term instead of the sum."""
    together: bool = False
    """True if, for a peak, the terms of layers that read the same values add up: they are there at once."""
    table: str | None = None
    """Name of the hardware target's table that the metric needs."""
    activity: Callable[[Target], bool] = lambda target: False
    """Returns True if the metric needs firing rates on a target."""
    alias: str | None = None
    declared: DeclaredMetric | None = None
    """What a user said of it; None of bitsearch's own."""
    everywhere: bool = True
    """False if it is a cost of those networks only whose search space declares it."""

    def cost(self, geometry: Geometry, bits: Bits) -> Vector:
        """The network's cost, a scalar (of shape [...])."""
        terms = self.terms(geometry, bits)
        if not self.peak:
            return self.total(*(term.sum(-1) for term in terms))
        return self.total(*(_largest(term @ self.joined(geometry)) for term in terms))

    def joined(self, geometry: Geometry) -> Vector:
        """``[L, groups]``: 1 where a layer is in a group, of a peak: the largest group's sum counts."""
        if self.together and geometry.streams is not None:
            return geometry.streams
        layers = len(geometry.macs)
        return torch.eye(layers).to(geometry.macs) if isinstance(geometry.macs, torch.Tensor) else np.eye(layers)

    @property
    def additive(self) -> bool:
        """True if the network's cost is the sum of its layers'."""
        return not self.peak and self.total is Metric.total

    def available(self, target: Target) -> bool:
        """True if the target has the table that the metric needs."""
        return self.table is None or getattr(target, self.table) is not None


def _largest(term: Vector) -> Vector:
    return term.amax(-1) if isinstance(term, torch.Tensor) else term.max(-1)
