"""The recurrence of a spiking neuron over its time steps, whose equations :mod:`bitsearch.quant.neuron` has."""

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from bitsearch.plan import NeuronSettings
from bitsearch.quant.firing import largest_level, residual, spike_levels
from bitsearch.quant.membrane_width import MembraneWidth, fixed_point_steps
from bitsearch.quant.uniform import Levels, cast_like, working_precision


def membrane_steps(
    x: Tensor,
    steps: Tensor,
    bits: Tensor,
    *,
    time_steps: int,
    decay: float,
    signed: bool,
    framed: bool = False,
    largest: Tensor | None = None,
    neuron: NeuronSettings | None = None,
    width: MembraneWidth | None = None,
    reuses_codes: bool = False,
) -> Iterator[tuple[Levels, Tensor]]:
    """The recurrence, one item a time step: (levels of the membrane u_t, spikes o_t), each shaped like ``x``.

    ``steps``, ``bits`` and ``largest`` (the most levels; None computes them) are ``[T_max]`` tensors with
    T_max ≥ ``time_steps``; only the first ``time_steps`` are used. With ``framed``, x is ``[time_steps, ...]``, the
    current of every step, and the items are shaped like one frame. ``neuron``: its reset and comparison; by default it
    subtracts what it sends, and sends the nearest level. ``width``: of its membrane; by default that of a float.
    ``reuses_codes``: the spikes may be written where the levels' codes are, of which then nothing is left.
    """
    if largest is None:
        largest = largest_level(steps, bits, signed=signed, neuron=neuron)
    if width is None:
        return _float_steps(x, steps, bits, time_steps, decay, signed, framed, largest, neuron, reuses_codes)
    return fixed_point_steps(
        x,
        steps,
        bits,
        largest,
        time_steps=time_steps,
        decay=decay,
        signed=signed,
        width=width,
        framed=framed,
        neuron=neuron,
    )


def _float_steps(
    x: Tensor,
    steps: Tensor,
    bits: Tensor,
    time_steps: int,
    decay: float,
    signed: bool,
    framed: bool,
    largest: Tensor,
    neuron: NeuronSettings | None,
    reuses_codes: bool,
) -> Iterator[tuple[Levels, Tensor]]:
    x = working_precision(x)
    membrane = x[0] if framed else x
    for t in range(time_steps):
        levels = spike_levels(membrane, steps[t], bits[t], signed=signed, largest=largest[t], neuron=neuron)
        spikes = levels.codes.mul_(steps[t]) if reuses_codes else levels.codes * steps[t]
        yield levels, spikes
        if t + 1 < time_steps:
            current = x[t + 1] if framed else x
            # Without memory no residual is added: infinity times zero would be NaN.
            membrane = torch.add(current, residual(membrane, spikes, neuron, decay), alpha=decay) if decay else current


def mean_spikes(
    x: Tensor,
    steps: Tensor,
    bits: Tensor,
    *,
    time_steps: int,
    decay: float,
    signed: bool,
    framed: bool = False,
    largest: Tensor | None = None,
    neuron: NeuronSettings | None = None,
    width: MembraneWidth | None = None,
) -> Tensor:
    """ō, or every o_t with ``framed``, without analytic gradients; shapes as in :func:`membrane_steps`."""
    recurrence = membrane_steps(
        x,
        steps,
        bits,
        time_steps=time_steps,
        decay=decay,
        signed=signed,
        framed=framed,
        largest=largest,
        neuron=neuron,
        width=width,
        # A compiler traces this as a part of the gradients, and places its results itself.
        reuses_codes=not torch.is_grad_enabled() and not torch.compiler.is_compiling(),
    )
    if framed:
        return cast_like(torch.stack([spikes for _, spikes in recurrence]), x)
    spike_sum = functools.reduce(Tensor.add_, (spikes for _, spikes in recurrence))
    return cast_like(spike_sum if time_steps == 1 else spike_sum / time_steps, x)
