r"""Membranes of a given width: fixed-point numbers that saturate, in units of the step size over a power of two.

With m bits and spikes of at most q = 2^k − 1 levels, a membrane is a whole number v of units s / n,

.. math::
    n = \max(2^{m-2-k}, 1), \qquad v_t = \mathrm{sat}\big(\mathrm{sat}(\lfloor n\, x_t / s + \tfrac12 \rfloor) +
    \lfloor \lambda\, r_{t-1} + \tfrac12 \rfloor\big), \qquad r_t = v_t - n\, k_t,

sat to −2^(m−1) … 2^(m−1) − 1: what a neuron adds up may be twice its largest spike before it saturates, wherever there
are bits for that. The level k_t is that of v_t / n, ties upward, as :mod:`bitsearch.quant.firing` says; saturation
never changes it, but what is left behind it. All time steps have one step size.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bitsearch.plan import NeuronSettings
from bitsearch.quant.firing import residual, spike_levels
from bitsearch.quant.uniform import Levels, q_max, working_precision


class MembraneWidth(NamedTuple):
    """Width and unit of a membrane."""

    bits: int
    """m."""
    units: int
    """n, of a step size."""
    most: int
    """The largest whole number of units, 2^(m−1) − 1; the least is −2^(m−1)."""


def membrane_width(bits: int, spike_bits: Sequence[int], *, signed: bool) -> MembraneWidth:
    """Of membranes of ``bits`` bits in front of spikes of ``spike_bits``, one a time step.

    >>> membrane_width(16, (4, 3), signed=False)
    MembraneWidth(bits=16, units=1024, most=32767)
    >>> membrane_width(8, (8,), signed=True).units
    1
    """
    magnitude = q_max(max(spike_bits), signed=signed).bit_length()
    return MembraneWidth(bits, 1 << max(bits - 2 - magnitude, 0), (1 << bits - 1) - 1)


def stored(values: Tensor, width: MembraneWidth) -> Tensor:
    """``values``, in step sizes, as a membrane holds them: rounded, ties upward, and saturated; no gradient."""
    whole = torch.floor(values * width.units + 0.5).clamp(-width.most - 1, width.most)
    return whole / width.units


def next_membrane(currents: Tensor, remaining: Tensor | None, decay: float, width: MembraneWidth) -> Tensor:
    """u_t in step sizes, before it saturates, of currents and of what the last step has left, r_(t−1)."""
    membrane = stored(currents, width)
    if remaining is None or not decay:
        return membrane
    return membrane + torch.floor(remaining * (decay * width.units) + 0.5) / width.units


def fixed_point_steps(
    x: Tensor,
    steps: Tensor,
    bits: Tensor,
    largest: Tensor,
    *,
    time_steps: int,
    decay: float,
    signed: bool,
    width: MembraneWidth,
    framed: bool = False,
    neuron: NeuronSettings | None = None,
) -> Iterator[tuple[Levels, Tensor]]:
    """:func:`bitsearch.quant.recurrence.membrane_steps` of membranes of a width."""
    step = steps[0]
    scaled = working_precision(x) / step
    remaining = None
    for t in range(time_steps):
        membrane = next_membrane(scaled[t] if framed else scaled, remaining, decay, width)
        levels = fixed_point_levels(membrane, bits[t], width, signed=signed, largest=largest[t], neuron=neuron)
        yield levels, levels.codes * step
        remaining = residual(saturated(membrane, width), levels.codes, neuron, decay)


def fixed_point_levels(
    membrane: Tensor,
    bits: Tensor,
    width: MembraneWidth,
    *,
    signed: bool,
    largest: Tensor,
    neuron: NeuronSettings | None = None,
) -> Levels:
    """Levels of a membrane in step sizes; other arguments as for :func:`bitsearch.quant.firing.spike_levels`."""
    if neuron is None or neuron.threshold == "half":
        # Half-way between two levels the upper one is sent: a quarter of the unit decides it, and nothing else.
        membrane = membrane + 0.25 / width.units
    return spike_levels(membrane, torch.ones_like(largest), bits, signed=signed, largest=largest, neuron=neuron)


def saturated(membrane: Tensor, width: MembraneWidth) -> Tensor:
    """A membrane in step sizes, within what its width holds."""
    return membrane.clamp(-(width.most + 1) / width.units, width.most / width.units)
