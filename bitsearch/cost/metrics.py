r"""Cost metrics: each one function, for numbers (NumPy float64, exact) and for tensors (differentiable) alike.

Symbols, vectors over the layers: w weight bits, s spike bits averaged over a layer's time steps, T time steps, MACs and
N_w, N_s from :class:`bitsearch.cost.geometry.LayerGeometry`, r firing rates (share of non-zero spikes).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

# NumPy arrays or torch tensors of shape [L]; the formulas use only what both understand.
Vector = Any

STEP_BYTES = 4
"""A spike step size is stored as float32."""
CHANNEL_BYTES = 8
"""An output channel's multiplier and bias (batch norm folded in) are stored as two 32-bit numbers."""


@dataclass(frozen=True)
class Geometry:
    """Counts of every layer as vectors of shape [L]."""

    macs: Vector
    weights: Vector
    inputs: Vector
    outputs: Vector
    counted: Vector
    """1 where the layer enters the bit and operation counts, 0 where not."""
    firing_rates: Vector
    """NaN where not measured."""


@dataclass(frozen=True)
class Bits:
    """The allocation of every layer as vectors of shape [L]."""

    weights: Vector
    spikes: Vector
    """Averaged over the layer's time steps."""
    time_steps: Vector


Formula = Callable[[Geometry, Bits], Vector]


@dataclass(frozen=True)
class Metric:
    """One entry of the table."""

    name: str
    unit: str
    title: str
    formula: Formula
    needs_firing_rates: bool = False


def _mean(values: Vector, weights: Vector) -> Vector:
    return (values * weights).sum() / weights.sum()


def mean_bits(geometry: Geometry, bits: Bits) -> tuple[Vector, Vector, Vector]:
    """(W̄, S̄, T̄): means over the counted layers, W̄ weighted by N_w, S̄ and T̄ by N_s (Yao et al. 2025)."""
    weights, inputs = geometry.weights * geometry.counted, geometry.inputs * geometry.counted
    return _mean(bits.weights, weights), _mean(bits.spikes, inputs), _mean(bits.time_steps, inputs)


def bit_budget(geometry: Geometry, bits: Bits) -> Vector:
    """Bit Budget of the network, W̄·S̄·T̄: the product of the weighted means (Shen et al. 2024; Yao et al. 2025)."""
    weights, spikes, time_steps = mean_bits(geometry, bits)
    return weights * spikes * time_steps


def s_ace(geometry: Geometry, bits: Bits) -> Vector:
    """S-ACE = Σ_l Σ_t MACs_l·w_l·s_{l,t}, in bit operations for one input (Shen et al. 2024, arXiv 2311.10802)."""
    return (geometry.macs * geometry.counted * bits.weights * bits.spikes * bits.time_steps).sum()


def bit_budget_mac(geometry: Geometry, bits: Bits) -> Vector:
    """Mean Bit Budget of a MAC, Σ MACs·T·w·s / Σ MACs = S-ACE / MACs."""
    return s_ace(geometry, bits) / (geometry.macs * geometry.counted).sum()


def ns_ace(geometry: Geometry, bits: Bits) -> Vector:
    """NS-ACE = Σ_l S-ACE_l·r_l: S-ACE of the non-zero spikes alone (Shen et al. 2024)."""
    operations = geometry.macs * geometry.counted * bits.weights * bits.spikes * bits.time_steps
    return (operations * geometry.firing_rates).sum()


def weight_memory(geometry: Geometry, bits: Bits) -> Vector:
    """Bytes of the stored network: weights packed to whole bytes a layer, spike steps, and what a channel needs.

    Σ_l ⌈N_w·w/8⌉ + 4·T + 8·outputs: a float32 step a time step; a multiplier and a bias an output channel, into which
    the weight step, the layer's bias and batch norm are folded. All layers count, the first one too.
    """
    packed = _whole(geometry.weights * bits.weights / 8)
    return (packed + STEP_BYTES * bits.time_steps + CHANNEL_BYTES * geometry.outputs).sum()


def _whole(values: Vector) -> Vector:
    """Rounded up; straight-through for tensors."""
    if isinstance(values, torch.Tensor):
        return values + (values.ceil() - values).detach()
    return np.ceil(values)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("bit_budget", "bits", "Bit Budget W̄·S̄·T̄", bit_budget),
        Metric("bit_budget_mac", "bits", "Bit Budget per MAC", bit_budget_mac),
        Metric("s_ace", "bit operations", "S-ACE", s_ace),
        Metric("ns_ace", "bit operations", "NS-ACE (non-zero spikes)", ns_ace, needs_firing_rates=True),
        Metric("weight_memory", "bytes", "Weight memory", weight_memory),
    )
}
"""Every cost metric by name; adding one is one entry here."""
