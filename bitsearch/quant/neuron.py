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

Inside of :func:`bitsearch.quant.membrane_gradient.gradients_through_time` nothing is stopped: with I the
straight-through :math:`\partial o_t / \partial u_t`,

.. math::
    \frac{\partial u_{t+1}}{\partial u_t} = \lambda (1 - I_t)

and λ where nothing is sent, 0 elsewhere, for a membrane that a spike resets to zero: that reset's own derivative is
left out.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bitsearch.plan import NeuronSettings
from bitsearch.quant.compilation import compilable
from bitsearch.quant.firing import largest_level, residual
from bitsearch.quant.membrane_gradient import goes_through_time
from bitsearch.quant.membrane_width import MembraneWidth
from bitsearch.quant.recurrence import mean_spikes, membrane_steps
from bitsearch.quant.uniform import (
    Levels,
    cast_like,
    inside_range,
    level_gradients,
    q_max,
    working_precision,
)


# As in uniform.py, the kernels get the most levels as an input.
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
    width: MembraneWidth | None = None,
) -> Tensor:
    """:func:`mean_spikes` as a kernel."""
    return mean_spikes(
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
    width: MembraneWidth | None = None,
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
        width=width,
    )
    for t, (levels, spikes) in enumerate(recurrence):
        step_grad = grad_share[t] if framed else grad_share
        inside_grad = step_grad * inside_range(levels)
        grad_step, grad_bits = _level_gradients(
            step_grad, inside_grad, levels, steps[t], bits[t], signed=signed, neuron=neuron
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


@compilable
def _backward_through_time(
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
    width: MembraneWidth | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As :func:`_neuron_backward`, through the membranes; all levels are held at once."""
    grad = working_precision(grad)
    grad_share = grad / time_steps if time_steps > 1 and not framed else grad
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
    )
    grad_steps: list[Tensor] = []
    grad_bits_list: list[Tensor] = []
    spike_products: list[Tensor] = []
    membrane_grads: list[Tensor] = []
    residual_grad: Tensor | None = None
    for t, (levels, spikes) in reversed(list(enumerate(recurrence))):
        step_grad = grad_share[t] if framed else grad_share
        if not framed:
            spike_products.append((step_grad * spikes).sum())
        passed_on = residual_grad
        if residual_grad is not None and (neuron is None or neuron.reset == "subtract"):
            step_grad = step_grad - residual_grad
        elif residual_grad is not None and neuron is not None and neuron.reset == "delayed":
            step_grad = step_grad - residual_grad / decay
        elif residual_grad is not None:
            passed_on = residual(residual_grad, spikes, neuron, decay)
        membrane_grad = step_grad * inside_range(levels)
        grad_step, grad_bits = _level_gradients(
            step_grad, membrane_grad, levels, steps[t], bits[t], signed=signed, neuron=neuron
        )
        grad_steps.insert(0, grad_step)
        grad_bits_list.insert(0, grad_bits)
        membrane_grads.insert(0, membrane_grad if passed_on is None else membrane_grad + passed_on)
        residual_grad = decay * membrane_grads[0]
    grad_time = grad.new_zeros(()) if framed else -torch.stack(spike_products).sum() / time_steps
    grads = torch.stack(membrane_grads)
    grad_x = grads if framed else grads.sum(0)
    return cast_like(grad_x, x), torch.stack(grad_steps), torch.stack(grad_bits_list), grad_time


def _level_gradients(
    step_grad: Tensor,
    inside_grad: Tensor,
    levels: Levels,
    step: Tensor,
    bits: Tensor,
    *,
    signed: bool,
    neuron: NeuronSettings | None,
) -> tuple[Tensor, Tensor]:
    """(ds, db) of a time step's spikes."""
    grad_step, grad_bits = level_gradients(step_grad, inside_grad, levels, step, bits, signed=signed)
    if neuron is not None and neuron.largest is not None:
        # Where the largest spike, and not the bits, is what clips, more bits change nothing.
        grad_bits = torch.where(levels.largest < q_max(bits, signed=signed), torch.zeros_like(grad_bits), grad_bits)
    return grad_step, grad_bits


class _RefinedNeuron(torch.autograd.Function):
    """Analytic backward, by default with detached residuals: o_t depends on x only through ``+ x``.

    Saves its inputs only.
    """

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
        width: MembraneWidth | None,
        through_time: bool,
    ) -> Tensor:
        largest = largest_level(steps, bits, signed=signed, neuron=neuron)
        ctx.save_for_backward(x, steps, bits, largest)
        ctx.settings = (time_steps, decay, signed, framed, neuron, width)
        ctx.through_time = through_time and time_steps > 1 and decay != 0
        return spike(x, steps, bits, largest, *ctx.settings)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, steps, bits, largest = ctx.saved_tensors
        backward = _backward_through_time if ctx.through_time else _neuron_backward
        grad_x, grad_steps, grad_bits, grad_time = backward(grad, x, steps, bits, largest, *ctx.settings)
        padding = (0, len(steps) - len(grad_steps))
        grad_steps, grad_bits = (functional.pad(gradients, padding) for gradients in (grad_steps, grad_bits))
        _, _, _, needs_bits, needs_time, *_ = ctx.needs_input_grad
        return (
            grad_x,
            grad_steps,
            None,
            grad_bits if needs_bits else None,
            grad_time if needs_time else None,
            *[None] * 7,
        )


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
    width: MembraneWidth | None = None,
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
        width: of its membrane, whose rounding and saturation pass gradients as if they were not there.

    Gradients: dō/dx = (1/T)·Σ_t I_t, with ``framed`` do_t/dx_t = I_t; steps and bits as for
    :func:`bitsearch.quant.uniform.quantize`, per time step; zero for the time steps beyond T. Half-precision ``x`` runs
    in float32, the result has its dtype.
    """
    assert not (framed and time_latent is not None), "frames are binned, not divided: bitsearch.quant.frames"
    if not torch.is_grad_enabled():
        return mean_spikes(
            x, steps, bits, time_steps=time_steps, decay=decay, signed=signed, framed=framed, neuron=neuron, width=width
        )
    result: Tensor = _RefinedNeuron.apply(
        x, steps, bits, bits_latent, time_latent, time_steps, decay, signed, framed, neuron, width, goes_through_time()
    )
    return result
