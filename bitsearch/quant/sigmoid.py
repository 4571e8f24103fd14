r"""Differentiable quantization of weights: a sum of sigmoids that sharpen into steps.

.. math::
    Q(x) = \alpha \Big( \sum_i h_i \, \sigma(\tau (\beta x - c_i)) - o \Big), \qquad
    h_i = y_{i+1} - y_i, \quad o = \tfrac12 \sum_i h_i

over the sorted levels y (Yang et al. 2019, Quantization Networks; Shymyrbay et al. 2023, arXiv 2305.19295). The
temperature τ rises while training; with the unit step for σ, Q is :math:`\alpha y`, a uniform grid of step size α.
Levels are those of the signed grid of :mod:`bitsearch.quant.uniform`: b bits have {−q, …, q} with
q = 2^(b−1) − 1, so that ternary is 2 bits, and ±2 or ±4, as a ``largest`` level, 3 or 4 bits; one bit is {−1, 1}.
"""

from typing import Any

import torch
from torch import Tensor

from bitsearch.quant.uniform import q_max

MAX_ARGUMENT = 10.0
"""Bound of a sigmoid's argument, beyond which it has no gradient."""
MAX_TEMPERATURE = 2000.0
"""Bound of the temperature τ."""
SCALE_FACTOR = 1.25
"""Factor on max|y| / max|w| in the initial β."""
TERNARY_THRESHOLD = 0.05
"""Distance of the ternary grid's two thresholds from zero."""
MAX_CLUSTERED_WEIGHTS = 5_000
"""Number of weights, at most, that k-means clusters."""


def sigmoid_levels(bits: int, largest: int | None = None) -> Tensor:
    """The levels y of a ``bits``-bit grid, rising, ``[n]``; none beyond ±``largest`` from three bits on."""
    top = int(q_max(torch.tensor(float(bits)), signed=True))
    if bits == 1:
        return torch.tensor([-1.0, 1.0])
    top = top if largest is None or bits < 3 else min(top, largest)
    return torch.arange(-top, top + 1, dtype=torch.float32)


def sigmoid_scale(weight: Tensor, levels: Tensor) -> Tensor:
    """The initial β, 1.25·max|y| / max|w|, a scalar; the initial α is 1/β."""
    return SCALE_FACTOR * levels.abs().max() / weight.detach().abs().max().clamp_min(torch.finfo(torch.float32).tiny)


def sigmoid_thresholds(scaled: Tensor, levels: Tensor) -> Tensor:
    """The thresholds c, ``[n − 1]``: 0 for two levels, ±0.05 for three, else midpoints of k-means centres.

    Args:
        scaled: β·w, any shape.
        levels: ``[n]``; their midpoints are the thresholds of weights with at most n different values.
    """
    if len(levels) == 2:
        return torch.zeros(1, device=scaled.device)
    if len(levels) == 3:
        return torch.tensor([-TERNARY_THRESHOLD, TERNARY_THRESHOLD], device=scaled.device)
    # Only trainings with sigmoids need it, and it takes half a second to import.
    from sklearn.cluster import KMeans

    values = scaled.detach().flatten().float().cpu().sort().values
    values = values[torch.linspace(0, len(values) - 1, min(len(values), MAX_CLUSTERED_WEIGHTS)).long()]
    centres = levels
    if len(values.unique()) > len(levels):
        start = values[torch.linspace(0, len(values) - 1, len(levels)).long()]
        clusters = KMeans(len(levels), init=start[:, None].numpy(), n_init=1).fit(values[:, None].numpy())
        centres = torch.from_numpy(clusters.cluster_centers_[:, 0]).float().sort().values
    return ((centres[1:] + centres[:-1]) / 2).to(scaled.device)


def temperature(epoch: int, rate: float) -> float:
    """The temperature τ = min(``rate``·``epoch``, :data:`MAX_TEMPERATURE`); epochs count from 1."""
    return min(rate * epoch, MAX_TEMPERATURE)


class _SumOfSigmoids(torch.autograd.Function):
    """Loops over the thresholds in forward and backward, so that the memory does not grow with their number."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, alpha: Tensor, beta: Tensor, thresholds: Tensor, heights: Tensor, tau: float
    ) -> Tensor:
        total = torch.zeros_like(x) - heights.sum() / 2
        for height, threshold in zip(heights, thresholds, strict=True):
            total += height * torch.sigmoid((tau * (beta * x - threshold)).clamp(-MAX_ARGUMENT, MAX_ARGUMENT))
        ctx.save_for_backward(x, alpha, beta, thresholds, heights, total)
        ctx.tau = tau
        return alpha * total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha, beta, thresholds, heights, total = ctx.saved_tensors
        slope = torch.zeros_like(x)
        for height, threshold in zip(heights, thresholds, strict=True):
            argument = ctx.tau * (beta * x - threshold)
            value = torch.sigmoid(argument)
            slope += height * value * (1 - value) * (argument.abs() <= MAX_ARGUMENT)
        # The derivative by βx, from which those by x and β follow.
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
    """The level of each element, shaped like ``x``: Q/α with the unit step for σ, which is 1 at a threshold."""
    return levels[torch.bucketize((beta * x).detach().contiguous(), thresholds, right=True)]
