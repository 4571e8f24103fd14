r"""The refined spiking neuron: multi-bit spikes over T time steps, averaged (temporal squeezing).

.. math::
    u_1 = x, \quad o_t = Q_{s_t, b_t}(u_t), \quad
    u_{t+1} = \lambda\,\mathrm{stopgrad}(u_t - o_t) + x, \quad
    \bar o = \frac{1}{T} \sum_{t=1}^{T} o_t

With decay λ = 1 the membrane carries the quantization error to the next step, so more steps mean more effective levels.
A convolution is linear, so it runs once, on ō, for any T. Source: Yao et al. 2025 (arXiv 2506.23717).

One bit, λ = 1 and a shared step is an integrate-and-fire neuron with soft reset, threshold s and a membrane that
starts at s/2. With the settings of a network's own neuron (:mod:`bitsearch.quant.firing`), Q rounds down, or all of the
membrane is reset by a spike: one bit is then that neuron itself.

Event data have a time axis: the same recurrence then runs over the frames (``framed``), without an average,

.. math::
    u_1 = x_1, \quad u_{t+1} = \lambda\,\mathrm{stopgrad}(u_t - o_t) + x_{t+1}
"""

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bitsearch.plan import NeuronSettings
from bitsearch.quant.compilation import compilable
from bitsearch.quant.firing import largest_level, residual, spike_levels
from bitsearch.quant.uniform import (
    Levels,
    cast_like,
    inside_range,
    level_gradients,
    q_max,
    working_precision,
)


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
) -> Iterator[tuple[Levels, Tensor]]:
    """The recurrence, one item a time step: (levels of the membrane u_t, spikes o_t), each shaped like ``x``.

    ``steps``, ``bits`` and ``largest`` (the most levels; None computes them) are ``[T_max]`` tensors with
    T_max ≥ ``time_steps``; only the first ``time_steps`` are used. With ``framed``, x is ``[time_steps, ...]``, the
    current of every step, and the items are shaped like one frame. ``neuron``: its reset and comparison; by default it
    subtracts what it sends, and sends the nearest level.
    """
    x = working_precision(x)
    membrane = x[0] if framed else x
    if largest is None:
        largest = largest_level(steps, bits, signed=signed, neuron=neuron)
    for t in range(time_steps):
        levels = spike_levels(membrane, steps[t], bits[t], signed=signed, largest=largest[t], neuron=neuron)
        spikes = levels.codes * steps[t]
        yield levels, spikes
        if t + 1 < time_steps:
            current = x[t + 1] if framed else x
            # Without memory no residual is added: infinity times zero would be NaN.
            membrane = torch.add(current, residual(membrane, spikes, neuron), alpha=decay) if decay else current


# As in uniform.py, the kernels get q_max as an input.
@compilable
def spike(
    x: Tensor,
    steps: Tensor,
    bits: Tensor,
    largest: Tensor,
    time_steps: int,
    decay: float,
    signed: bool,
    framed: bool = False,
    neuron: NeuronSettings | None = None,
) -> Tensor:
    """:func:`mean_spikes` as a kernel."""
    return mean_spikes(
        x, steps, bits, time_steps=time_steps, decay=decay, signed=signed, framed=framed, largest=largest, neuron=neuron
    )


@compilable
def _neuron_backward(
    grad: Tensor,
    x: Tensor,
    steps: Tensor,
    bits: Tensor,
    largest: Tensor,
    time_steps: int,
    decay: float,
    signed: bool,
    framed: bool = False,
    neuron: NeuronSettings | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (x, the first ``time_steps`` steps, their bits, T̂); the gradient of T̂ needs a static input."""
    grad = working_precision(grad)
    grad_share = grad / time_steps if time_steps > 1 and not framed else grad
    grad_steps, grad_bits_list, spike_products, frame_grads = [], [], [], []
    grad_x = None
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
    )
    for t, (levels, spikes) in enumerate(recurrence):
        step_grad = grad_share[t] if framed else grad_share
        inside_grad = step_grad * inside_range(levels)
        grad_step, grad_bits = level_gradients(step_grad, inside_grad, levels, steps[t], bits[t], signed=signed)
        if neuron is not None and neuron.largest is not None:
            # Where the largest spike, and not the bits, is what clips, more bits change nothing.
            grad_bits = torch.where(
                levels.largest < q_max(bits[t], signed=signed), torch.zeros_like(grad_bits), grad_bits
            )
        grad_steps.append(grad_step)
        grad_bits_list.append(grad_bits)
        if framed:
            frame_grads.append(inside_grad)
        else:
            spike_products.append((step_grad * spikes).sum())
            grad_x = inside_grad if grad_x is None else grad_x.add_(inside_grad)
    grad_time = grad.new_zeros(()) if framed else -torch.stack(spike_products).sum() / time_steps
    if framed:
        grad_x = torch.stack(frame_grads)
    assert grad_x is not None
    return cast_like(grad_x, x), torch.stack(grad_steps), torch.stack(grad_bits_list), grad_time


class _RefinedNeuron(torch.autograd.Function):
    """Analytic backward: the residual is detached, so o_t depends on x only through ``+ x``. Saves its inputs only."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        steps: Tensor,
        bits: Tensor,
        bits_latent: Tensor | None,
        time_latent: Tensor | None,
        time_steps: int,
        decay: float,
        signed: bool,
        framed: bool,
        neuron: NeuronSettings | None,
    ) -> Tensor:
        largest = largest_level(steps, bits, signed=signed, neuron=neuron)
        ctx.save_for_backward(x, steps, bits, largest)
        ctx.settings = (time_steps, decay, signed, framed, neuron)
        return spike(x, steps, bits, largest, *ctx.settings)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, steps, bits, largest = ctx.saved_tensors
        grad_x, grad_steps, grad_bits, grad_time = _neuron_backward(grad, x, steps, bits, largest, *ctx.settings)
        padding = (0, len(steps) - len(grad_steps))
        grad_steps, grad_bits = (functional.pad(gradients, padding) for gradients in (grad_steps, grad_bits))
        _, _, _, needs_bits, needs_time, *_ = ctx.needs_input_grad
        return (
            grad_x,
            grad_steps,
            None,
            grad_bits if needs_bits else None,
            grad_time if needs_time else None,
            *[None] * 5,
        )


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
    )
    if framed:
        return cast_like(torch.stack([spikes for _, spikes in recurrence]), x)
    spike_sum = functools.reduce(Tensor.add_, (spikes for _, spikes in recurrence))
    return cast_like(spike_sum if time_steps == 1 else spike_sum / time_steps, x)


def refined_neuron(
    x: Tensor,
    steps: Tensor,
    bits: Tensor,
    bits_latent: Tensor | None = None,
    time_latent: Tensor | None = None,
    *,
    time_steps: int,
    decay: float = 1.0,
    signed: bool = False,
    framed: bool = False,
    neuron: NeuronSettings | None = None,
) -> Tensor:
    """Mean spikes ō of a static input, or with ``framed`` the spikes of every frame; shaped like ``x``.

    Args:
        x: input current (after batch norm and ReLU), any shape, the same at every time step; with ``framed``
            ``[time_steps, ...]``, the current of each time step.
        steps: ``[T_max]`` positive step sizes, one per time step.
        bits: ``[T_max]`` rounded spike bit widths.
        bits_latent: ``[T_max]`` latents that receive the bit widths' gradients, or None.
        time_latent: scalar latent T̂ that receives ∂ō/∂T̂ = −ō/T, or None; for a static input only.
        time_steps: T, from 1 to T_max.
        decay: membrane decay λ; 1 keeps the whole residual.
        signed: True if x may be negative, as the network's input.
        framed: True if x has a time axis.
        neuron: its reset and comparison, as for :func:`membrane_steps`.

    Gradients: dō/dx = (1/T)·Σ_t I_t, with ``framed`` do_t/dx_t = I_t; steps and bits as for
    :func:`bitsearch.quant.uniform.quantize`, per time step; zero for the time steps beyond T. Half-precision ``x`` runs
    in float32, the result has its dtype.
    """
    assert not (framed and time_latent is not None), "frames are binned, not divided: bitsearch.quant.frames"
    if not torch.is_grad_enabled():
        return mean_spikes(
            x, steps, bits, time_steps=time_steps, decay=decay, signed=signed, framed=framed, neuron=neuron
        )
    result: Tensor = _RefinedNeuron.apply(
        x, steps, bits, bits_latent, time_latent, time_steps, decay, signed, framed, neuron
    )
    return result
