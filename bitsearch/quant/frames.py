r"""The time axis of event data: a layer bins its frames into its own time steps, and holds what it computed.

A layer with T time steps and an input of F ≥ T frames averages the frames of every bin, computes T times, and holds
each result over its bin's frames, so that every layer sees F frames and has only T of them to compute:

.. math::
    \bar x_t = \frac{1}{|B_t|} \sum_{f \in B_t} x_f, \qquad y_f = y(\bar x)_{\lfloor f T / F \rfloor}

The bins are those of adaptive average pooling; they overlap where T does not divide F (our reading of "pools that axis
adaptively").
"""

from typing import Any

import torch
from torch import Tensor

from bitsearch.quant.neuron import mean_spikes
from bitsearch.quant.uniform import working_precision


def bins(frames: int, time_steps: int) -> list[tuple[int, int]]:
    """The frames of every bin, first … end − 1."""
    return [(t * frames // time_steps, -((t + 1) * frames // -time_steps)) for t in range(time_steps)]


def bin_weights(frames: int, time_steps: int, device: torch.device | None = None) -> Tensor:
    """``[T, F]``: the share of every frame in the mean of every bin; each row sums to one."""
    weights = torch.zeros(time_steps, frames, device=device)
    for t, (first, end) in enumerate(bins(frames, time_steps)):
        weights[t, first:end] = 1 / (end - first)
    return weights


def held(frames: int, time_steps: int, device: torch.device | None = None) -> Tensor:
    """``[F]``: the time step whose result every frame shows."""
    return torch.arange(frames, device=device) * time_steps // frames


def bin_frames(x: Tensor, time_steps: int) -> Tensor:
    """``[F, ...]`` to ``[T, ...]``: the mean of every bin's frames, differentiable."""
    frames = x.shape[0]
    if time_steps == frames:
        return x
    if frames % time_steps == 0:
        return x.unflatten(0, (time_steps, frames // time_steps)).mean(1)
    return torch.tensordot(bin_weights(frames, time_steps, x.device).to(x.dtype), x, 1)


def hold_frames(y: Tensor, frames: int) -> Tensor:
    """``[T, ...]`` to ``[F, ...]``: every time step's result, held over its frames; differentiable."""
    time_steps = y.shape[0]
    return y if time_steps == frames else y[held(frames, time_steps, y.device)]


class _TimeGradient(torch.autograd.Function):
    """Passes spikes on, and gives T̂ the change that one time step more or less makes to them."""

    @staticmethod
    def forward(ctx: Any, spikes: Tensor, time_latent: Tensor, other: Tensor, sign: float) -> Tensor:
        ctx.save_for_backward(spikes, other)
        ctx.sign = sign
        return spikes.view_as(spikes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        spikes, other = ctx.saved_tensors
        change = working_precision(spikes) - working_precision(other)
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
) -> Tensor:
    """``spikes`` (``[T, ...]``, of the frames ``x``, ``[F, ...]``) with a gradient for T̂ (our reading).

    T appears in no differentiable expression, so its gradient is a finite difference of what the layer computes: its
    spikes at T minus those at T − 1, seen through the bins of T (at T = 1: those at 2 minus those at 1; none where the
    input has one frame). ``steps`` and ``bits`` are ``[T_max]``; a step that is not in use yet is taken for the one
    before it.
    """
    time_steps, frames = spikes.shape[0], x.shape[0]
    nearby = time_steps - 1 if time_steps > 1 else 2
    if nearby > frames:
        return spikes
    with torch.no_grad():
        in_use = torch.arange(nearby, device=steps.device).clamp_max(time_steps - 1)
        binned = bin_frames(x, nearby)
        other = mean_spikes(
            binned, steps[in_use], bits[in_use], time_steps=nearby, decay=decay, signed=signed, framed=True
        )
        other = bin_frames(hold_frames(other, frames), time_steps)
    result: Tensor = _TimeGradient.apply(spikes, time_latent, other, 1.0 if nearby < time_steps else -1.0)
    return result
