r"""Differentiable quantization of weights: a sum of sigmoids that sharpen into steps.

.. math::
    Q(x) = \alpha \Big( \sum_i h_i \, \sigma(\tau (\beta x - c_i)) - o \Big), \qquad
    h_i = y_{i+1} - y_i, \quad o = \tfrac12 \sum_i h_i

over the sorted levels y (Yang et al. 2019, Quantization Networks; Shymyrbay et al. 2023, arXiv 2305.19295). The
temperature τ rises while training; with the unit step for σ, what is left is :math:`\alpha y`, a uniform grid of step
size α. Levels are those of the signed grid of :mod:`bitsearch.quant.uniform`: b bits have {−q, …, q} with
q = 2^(b−1) − 1, so that ternary is 2 bits, and ±2 or ±4, as a ``largest`` level, 3 or 4 bits; one bit is {−1, 1}.
"""

from typing import Any

import torch
from torch import Tensor

from bitsearch.quant.uniform import q_max

CLAMP = 10.0
"""Bound of a sigmoid's argument; beyond it, no gradient."""
MAX_TEMPERATURE = 2000.0
"""τ stays at or below this."""
SCALE = 1.25
"""β starts at this times max|y| / max|w|."""
TERNARY = 0.05
"""Thresholds of the ternary grid, on both sides of zero."""
CLUSTERED = 5_000
"""At most this many weights are clustered."""


def sigmoid_levels(bits: int, largest: int | None = None) -> Tensor:
    """The levels y of a ``bits``-bit grid, rising, ``[n]``; none beyond ±``largest`` from three bits on."""
    top = int(q_max(torch.tensor(float(bits)), signed=True))
    if bits == 1:
        return torch.tensor([-1.0, 1.0])
    top = top if largest is None or bits < 3 else min(top, largest)
    return torch.arange(-top, top + 1, dtype=torch.float32)


def sigmoid_scale(weight: Tensor, levels: Tensor) -> Tensor:
    """Where β starts, 1.25·max|y| / max|w|, a scalar; α starts at 1/β."""
    return SCALE * levels.abs().max() / weight.detach().abs().max().clamp_min(torch.finfo(torch.float32).tiny)


def sigmoid_thresholds(scaled: Tensor, levels: Tensor) -> Tensor:
    """Where the steps lie, c, ``[n − 1]``: 0 for two levels, ±0.05 for three, else midpoints of k-means centres.

    Args:
        scaled: β·w, any shape.
        levels: ``[n]``. Where the weights have fewer different values than that, the midpoints are the levels' own.
    """
    if len(levels) == 2:
        return torch.zeros(1, device=scaled.device)
    if len(levels) == 3:
        return torch.tensor([-TERNARY, TERNARY], device=scaled.device)
    # Only trainings with sigmoids need it, and it takes half a second to import.
    from sklearn.cluster import KMeans

    values = scaled.detach().flatten().float().cpu().sort().values
    values = values[torch.linspace(0, len(values) - 1, min(len(values), CLUSTERED)).long()]
    centres = levels
    if len(values.unique()) > len(levels):
        start = values[torch.linspace(0, len(values) - 1, len(levels)).long()]
        found = KMeans(len(levels), init=start[:, None].numpy(), n_init=1).fit(values[:, None].numpy())
        centres = torch.from_numpy(found.cluster_centers_[:, 0]).float().sort().values
    return ((centres[1:] + centres[:-1]) / 2).to(scaled.device)


def temperature(epoch: int, rate: float) -> float:
    """τ in an epoch, counted from 1: ``rate`` times as much, at most :data:`MAX_TEMPERATURE`."""
    return min(rate * epoch, MAX_TEMPERATURE)


class _SumOfSigmoids(torch.autograd.Function):
    """One pass over the steps each way, so that the memory does not grow with their number."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, alpha: Tensor, beta: Tensor, thresholds: Tensor, heights: Tensor, tau: float
    ) -> Tensor:
        total = torch.zeros_like(x) - heights.sum() / 2
        for height, threshold in zip(heights, thresholds, strict=True):
            total += height * torch.sigmoid((tau * (beta * x - threshold)).clamp(-CLAMP, CLAMP))
        ctx.save_for_backward(x, alpha, beta, thresholds, heights, total)
        ctx.tau = tau
        return alpha * total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, alpha, beta, thresholds, heights, total = ctx.saved_tensors
        slope = torch.zeros_like(x)
        for height, threshold in zip(heights, thresholds, strict=True):
            argument = ctx.tau * (beta * x - threshold)
            value = torch.sigmoid(argument)
            slope += height * value * (1 - value) * (argument.abs() <= CLAMP)
        # By βx; x and β share it.
        slope = grad * alpha * ctx.tau * slope
        return slope * beta, (grad * total).sum(), (slope * x).sum(), None, None, None


def soft_quantize(x: Tensor, alpha: Tensor, beta: Tensor, thresholds: Tensor, levels: Tensor, tau: float) -> Tensor:
    """Q(x), shaped like ``x``, differentiable in ``x``, ``alpha`` and ``beta``.

    Args:
        x: any shape.
        alpha: scalar, size of a step between two levels.
        beta: scalar, scale of the input.
        thresholds: c, ``[n − 1]``, rising.
        levels: y, ``[n]``, rising.
        tau: temperature τ.
    """
    result: Tensor = _SumOfSigmoids.apply(x, alpha, beta, thresholds, levels.diff(), tau)
    return result


def hard_codes(x: Tensor, beta: Tensor, thresholds: Tensor, levels: Tensor) -> Tensor:
    """What Q becomes with the unit step for σ, before α: the level of each element, shaped like ``x``; 1 at a step."""
    return levels[torch.bucketize((beta * x).detach().contiguous(), thresholds, right=True)]
