"""The formulas of the cost metrics, one function each, for numbers (NumPy float64, exact) and for tensors alike.

Tensors get gradients: that of the number before rounding, where a cost is a whole one.

Symbols, vectors over the layers: w weight bits, s spike bits averaged over a layer's time steps, T time steps, MACs and
N_w, N_s from :class:`bitsearch.cost.geometry.LayerGeometry`, r firing rates (share of non-zero spikes). A layer that is
not quantized has w = s = 32, or the widths of the spikes that it multiplies (:mod:`bitsearch.cost.spike_products`), and
T is the number of its input's frames. ``first_layer.counted = false`` leaves the
first layer out of bits and operations; memory, energy, latency and cores are those of the whole network.
"""

import numpy as np
import torch

from bitsearch.cost.metric import Bits, Geometry, Terms, Vector

STEP_BYTES = 4
"""A spike step size is stored as a 32-bit number."""
ROUNDING = 1e-12
"""Relative; whole numbers of bits are further apart."""
LEAST_SHARE = 1e-9
"""Of a core: a layer takes one, however little it needs."""
CHANNEL_BYTES = 8
"""An output channel's multiplier and bias (batch norm folded in) are stored as two 32-bit numbers."""


def mean_bits(geometry: Geometry, bits: Bits) -> Terms:
    """Terms of W̄, S̄ and T̄: means over the counted layers, W̄ by N_w, S̄ and T̄ by N_s (Yao et al. 2025)."""
    weights, inputs = geometry.weights * geometry.count_mask, geometry.inputs * geometry.count_mask
    return bits.weights * weights, weights, bits.spikes * inputs, bits.time_steps * inputs, inputs


def means(weight_bits: Vector, weights: Vector, spike_bits: Vector, time_steps: Vector, inputs: Vector) -> Terms:
    """(W̄, S̄, T̄) from the totals of :func:`mean_bits`."""
    return weight_bits / weights, spike_bits / inputs, time_steps / inputs


def product_of_means(*totals: Vector) -> Vector:
    """Bit Budget of the network, W̄·S̄·T̄: the product of the weighted means (Shen et al. 2024; Yao et al. 2025)."""
    weights, spikes, time_steps = means(*totals)
    return weights * spikes * time_steps


def s_ace(geometry: Geometry, bits: Bits) -> Terms:
    """S-ACE = Σ_l Σ_t MACs_l·w_l·s_{l,t}, in bit operations for one input (Shen et al. 2024, arXiv 2311.10802)."""
    return (geometry.macs * geometry.count_mask * bits.weights * bits.spikes * bits.time_steps,)


def bit_budget_mac(geometry: Geometry, bits: Bits) -> Terms:
    """Mean Bit Budget of a MAC, Σ MACs·T·w·s / Σ MACs = S-ACE / MACs."""
    return (*s_ace(geometry, bits), geometry.macs * geometry.count_mask)


def ns_ace(geometry: Geometry, bits: Bits) -> Terms:
    """NS-ACE = Σ_l S-ACE_l·r_l: S-ACE of the non-zero spikes alone (Shen et al. 2024)."""
    return (s_ace(geometry, bits)[0] * geometry.firing_rates,)


def synops(geometry: Geometry, bits: Bits) -> Terms:
    """SynOps = Σ_l T_l·MACs_l·(share of them that a non-zero spike goes into), for one input.

    A spike of several bits is one operation. Connections are counted one by one, padded edges and all, as
    spikingjelly's ``SynOpCounter`` does. The first layer's input counts like spikes: every value that is not zero.
    """
    return (geometry.macs * geometry.count_mask * bits.time_steps * geometry.synaptic_rates,)


def weight_memory(geometry: Geometry, bits: Bits) -> Terms:
    """Bytes of the stored network: weights packed to whole bytes a layer, spike steps, multipliers and biases.

    Σ_l ⌈N_w·w/8⌉ + 4·n + 8·outputs: n = T step sizes of 32 bits, or 1 where a layer has one for all time steps, of
    layers with bits; none of one that reads the spikes of another's neurons. A multiplier and a bias an output channel,
    into which the weight step, the layer's bias and batch norm are folded. All layers count, the first one too.
    """
    weight_bytes = _round_up(geometry.weights * bits.weights / 8)
    steps = geometry.step_owners * (1 + geometry.steps_in_time * (bits.time_steps - 1))
    return (weight_bytes + STEP_BYTES * steps + CHANNEL_BYTES * geometry.outputs,)


def working_memory(geometry: Geometry, bits: Bits) -> Terms:
    """Bytes at run time besides the weights; the largest call counts, since layers run one after another.

    N_m·m/8 for the neurons' currents, as much again for their membrane potentials where T > 1 (at T = 1 they are the
    currents), and ⌈N_s·T·s/8⌉ for the spikes of all time steps; m is the layer's ``membrane_bits``, or the target's.
    N_m = N_s, but for layers whose neurons fire in front of pooling or sums: these N_m neurons send what N_s spikes are
    made of. Layers that read the same values count together: each has neurons of its own, or, where they are tied, the
    first has them.
    """
    steps = geometry.stored_steps(bits.time_steps)
    later_steps = steps - 1
    states_per_input = 1 + (
        later_steps.clamp(0, 1) if isinstance(later_steps, torch.Tensor) else np.clip(later_steps, 0, 1)
    )
    states = geometry.call_membranes * (geometry.membrane_bits(bits) / 8) * states_per_input
    return (states + _round_up(geometry.call_sent * steps * bits.spikes / 8),)


def energy(geometry: Geometry, bits: Bits) -> Terms:
    """Energy of one input in pJ, an estimate from the target's table.

    Σ over the layers of a·MACs·T·(e_bit·w·s + e_acc) for operations, where a is the firing rate on an event-driven
    target and 1 elsewhere; e_weight·⌈N_w·w/8⌉, every weight read once; e_state·2·T·(N_m·m + N_s·s)/8, the membrane
    potentials of N_m neurons, N_s but in front of pooling or sums, and N_s spikes, written and read once a time
    step; none of a layer that reads the spikes of another's neurons. Control, clock and leakage are not included.
    """
    table = geometry.target.energy
    assert table is not None
    operation_share = geometry.firing_rates if table.event_driven else 1.0
    operations = geometry.macs * bits.time_steps * (table.bit_operation * bits.weights * bits.spikes + table.accumulate)
    weights = _round_up(geometry.weights * bits.weights / 8)
    states = geometry.membranes * geometry.membrane_bits(bits) + geometry.sent * bits.spikes
    states = 2 * bits.time_steps * states / 8
    return (operation_share * operations + table.weight_byte * weights + table.state_byte * states,)


def latency(geometry: Geometry, bits: Bits) -> Terms:
    """Seconds for one input: MACs·T·w·s or MACs·T by what the target does of them a cycle, and its overhead a layer."""
    table = geometry.target.latency
    assert table is not None
    if table.bit_operations_per_cycle is not None:
        cycles = geometry.macs * bits.time_steps * bits.weights * bits.spikes / table.bit_operations_per_cycle
    else:
        cycles = geometry.macs * bits.time_steps / table.macs_per_cycle
    return ((cycles + table.layer_overhead_cycles) / table.clock,)


def cores(geometry: Geometry, bits: Bits) -> Terms:
    """Number of cores: what a layer needs of bytes, neurons and weights, by what a core has of each, rounded up.

    ⌈max(bytes/bytes_each, N_m/neurons_each, N_w/synapses_each)⌉, of those that the target gives; bytes are those of
    weights and states, and neurons that would encode the network's own input are not on the chip. A layer that does not
    fit one core is split over several, and two layers never share one. Where layers stay whole, one that does not fit
    takes more cores than there are: its share of a core, times their number, rounded up.
    """
    table = geometry.target.cores
    assert table is not None
    share = 0 * bits.weights + LEAST_SHARE
    if table.bytes_each is not None:
        layer_bytes = weight_memory(geometry, bits)[0] + working_memory(geometry, bits)[0]
        share = _larger(share, layer_bytes / table.bytes_each)
    if table.neurons_each is not None:
        share = _larger(share, geometry.on_chip / table.neurons_each)
    if table.synapses_each is not None:
        share = _larger(share, geometry.weights / table.synapses_each)
    taken = _round_up(share)
    if table.whole_layers:
        fits = taken <= 1
        taken = taken * fits + _round_up(table.count * share) * ~fits
    return (taken,)


def accumulator(geometry: Geometry, bits: Bits) -> Terms:
    """Bits of the signed integer that holds every sum of a layer: those of ±Σ|level|·Σcode, at the largest of both.

    An output has ``addends`` weights of at most 2^(w−1) − 1 levels, 1 at one bit. Codes are at most 2^s − 1, with a
    sign 2^(s−1) − 1, and add up over the time steps of an input that has no time axis. That is so where all of them
    have one step size, and spikes reach the layer as they were sent.
    """
    codes = bits.code_sums
    if codes is None:
        codes = geometry.signed * _largest_signed(bits.spikes) + (1 - geometry.signed) * (2.0**bits.spikes - 1)
        codes = codes * (geometry.framed + (1 - geometry.framed) * bits.time_steps)
    return (1 + _bit_length(geometry.addends * _largest_signed(bits.weights) * codes),)


def _largest_signed(bits: Vector) -> Vector:
    return _larger(2.0 ** (bits - 1) - 1, 1.0)


def _bit_length(magnitudes: Vector) -> Vector:
    """Of whole numbers; tensors get the gradient of log2(magnitude + 1)."""
    if isinstance(magnitudes, torch.Tensor):
        smooth = torch.log2(magnitudes + 1)
        return smooth + (torch.frexp(magnitudes.detach()).exponent - smooth).detach()
    return np.frexp(magnitudes)[1].astype(np.float64)


def _larger(one: Vector, other: Vector) -> Vector:
    return torch.maximum(one, other + 0 * one) if isinstance(one, torch.Tensor) else np.maximum(one, other)


def _round_up(values: Vector) -> Vector:
    """``values`` rounded up; tensors get the gradient of the identity."""
    if isinstance(values, torch.Tensor):
        return values + (values.ceil() - values).detach()
    # A mean over time steps times their number may be a rounding above the sum that it stands for.
    return np.ceil(values * (1 - ROUNDING))
