r"""The time axis of event data: a layer bins frames into its time steps, and holds each result over the bin's frames.

A layer with T time steps and an input of F ≥ T frames averages the frames of every bin, computes T time steps, and
repeats each result for the frames of its bin, so that every layer's input and output have F frames:

.. math::
    \bar x_t = \frac{1}{|B_t|} \sum_{f \in B_t} x_f, \qquad y_f = y(\bar x)_{\lfloor f T / F \rfloor}

The bins are those of adaptive average pooling; they overlap where T does not divide F (our reading of "pools that axis
adaptively").
"""

from typing import Any

import torch
from torch import Tensor

from bitsearch.plan import NeuronSettings
from bitsearch.quant.membrane_width import MembraneWidth
from bitsearch.quant.recurrence import mean_spikes
from bitsearch.quant.uniform import working_precision


def bins(frames: int, time_steps: int) -> list[tuple[int, int]]:
    """(first frame, last frame + 1) of every bin."""
    return [(t * frames // time_steps, -((t + 1) * frames // -time_steps)) for t in range(time_steps)]


def bin_weights(frames: int, time_steps: int, device: torch.device | None = None) -> Tensor:
    """``[T, F]``: the share of every frame in the mean of every bin; each row sums to one."""
    weights = torch.zeros(time_steps, frames, device=device)
    for t, (first, end) in enumerate(bins(frames, time_steps)):
        weights[t, first:end] = 1 / (end - first)
    return weights


def step_indices(frames: int, time_steps: int, device: torch.device | None = None) -> Tensor:
    """``[F]``: index of the time step that each frame of the output repeats."""
    return torch.arange(frames, device=device) * time_steps // frames


def bin_frames(x: Tensor, time_steps: int) -> Tensor:
    """``[F, ...]`` to ``[T, ...]``: the mean of every bin's frames, differentiable."""
    frames = x.shape[0]
    if time_steps == frames:
        return x
    if frames % time_steps == 0:
        means: Tensor = x.unflatten(0, (time_steps, frames // time_steps)).mean(1)
    else:
        means = torch.tensordot(bin_weights(frames, time_steps, x.device).to(x.dtype), x, 1)
    return means


def hold_frames(y: Tensor, frames: int) -> Tensor:
    """``[T, ...]`` to ``[F, ...]``: every time step's result, repeated for its frames; differentiable."""
    time_steps = y.shape[0]
    return y if time_steps == frames else y[step_indices(frames, time_steps, y.device)]


def first_frames(y: Tensor, time_steps: int) -> Tensor:
    """``[F, ...]`` to ``[T, ...]``: the first frame that shows every time step, what :func:`hold_frames` was given."""
    frames = y.shape[0]
    if time_steps == frames:
        return y
    return y[-(torch.arange(time_steps, device=y.device) * -frames // time_steps)]


class _TimeGradient(torch.autograd.Function):
    """Identity on spikes, whose backward gives T̂ the difference to the spikes of one time step more or less."""

    @staticmethod
    def forward(ctx: Any, spikes: Tensor, time_latent: Tensor, neighbour: Tensor, sign: float) -> Tensor:
        ctx.save_for_backward(spikes, neighbour)
        ctx.sign = sign
        return spikes.view_as(spikes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        spikes, neighbour = ctx.saved_tensors
        change = working_precision(spikes) - working_precision(neighbour)
        return grad, ctx.sign * (working_precision(grad) * change).sum(), None, None


def with_time_gradient(
    spikes: Tensor,
    x: Tensor,
    steps: Tensor,
    bits: Tensor,
    time_latent: Tensor,
    *,
    decay: float,
    signed: bool,
    neuron: NeuronSettings | None = None,
    width: MembraneWidth | None = None,
) -> Tensor:
    """``spikes`` (``[T, ...]``, of the frames ``x``, ``[F, ...]``) with a gradient for T̂ (our reading).

    T appears in no differentiable expression, so its gradient is a finite difference of the layer's output: spikes at T
    minus spikes at T − 1, averaged over the bins of T (at T = 1: spikes at 2 minus spikes at 1; for an input of one
    frame there is no gradient). ``steps`` and ``bits`` are ``[T_max]``; time step T + 1 uses the step and bits of T.
    """
    time_steps, frames = spikes.shape[0], x.shape[0]
    neighbour_steps = time_steps - 1 if time_steps > 1 else 2
    if neighbour_steps > frames:
        return spikes
    with torch.no_grad():
        indices = torch.arange(neighbour_steps, device=steps.device).clamp_max(time_steps - 1)
        bin_means = bin_frames(x, neighbour_steps)
        neighbour = mean_spikes(
            bin_means,
            steps[indices],
            bits[indices],
            time_steps=neighbour_steps,
            decay=decay,
            signed=signed,
            framed=True,
            neuron=neuron,
            width=width,
        )
        neighbour = bin_frames(hold_frames(neighbour, frames), time_steps)
    result: Tensor = _TimeGradient.apply(spikes, time_latent, neighbour, 1.0 if neighbour_steps < time_steps else -1.0)
    return result
