r"""Step-size renewal: the best step for a new bit width.

.. math::
    s^* = \arg\min_s \; \mathrm{mean}\, |Q(x; s, b) - x|^p, \qquad p = 2.4

When a bit width changes from b to b′, the old step puts the clipping edge off by about 2^(b′−b); renewal replaces it
at that moment (Yao et al. 2025). The loss is evaluated on a histogram of |x| instead of on x itself, so that its price
does not depend on the number of candidates.
"""

import math

import torch
from torch import Tensor

from bitsearch.errors import InputError
from bitsearch.quant.processes import gathered, largest, total
from bitsearch.quant.uniform import SMALLEST_STEP, largest_level, to_levels

EXPONENT = 2.4
BINS = 2048
_RATIOS, _DISTANCES, _FINE = 48, 50, 24
_SMALLEST_EDGE = 1e-3


def renew_step(x: Tensor, bits: Tensor, *, signed: bool, per_channel: bool = False, shared: bool = False) -> Tensor:
    """The step size that quantizes ``x`` to ``bits`` bits with the least mean |Q(x) − x|^2.4.

    Args:
        x: tensor to be quantized, any shape; per channel, its first axis is the channel.
        bits: scalar tensor, the new bit width.
        signed: grid of weights (True) or of spikes (False; negative elements cost the same at every step).
        per_channel: one step a channel.
        shared: ``x`` is this process's share of a tensor, and the step is to be the whole's; not ``per_channel``.

    Returns:
        A scalar, or ``[C, 1, ...]`` with ``per_channel``; never below ``SMALLEST_STEP``. A tensor of zeros, or an
        empty one, gets that.

    Raises:
        InputError: ``x`` holds NaN or infinity.
    """
    values = x.detach().float()
    if not values.numel():
        return values.new_full((x.shape[0], *[1] * (x.dim() - 1)) if per_channel else (), SMALLEST_STEP)
    check_finite(values)
    if per_channel:
        found = [_best_step(channel, bits, signed) for channel in values.flatten(1)]
        return torch.stack(found).reshape(-1, *[1] * (x.dim() - 1))
    return _best_step(values.flatten(), bits, signed, shared)


def check_finite(x: Tensor) -> None:
    """Raise InputError if ``x`` holds NaN or infinity."""
    if x.numel() and not math.isfinite(sum(bound.float() for bound in x.aminmax())):
        raise InputError("a tensor to be quantized holds NaN or infinity; lower the learning rate, or check the data")


def _best_step(values: Tensor, bits: Tensor, signed: bool, shared: bool = False) -> Tensor:
    # Both grids treat x and −x alike, or (unsigned) negative values alike at every step: magnitudes are enough.
    magnitude = values.abs() if signed else values.clamp_min(0)
    top = largest(magnitude.max()) if shared else magnitude.max()
    q_max = largest_level(bits, signed=signed)
    count = int(total(torch.tensor(len(magnitude), device=values.device))) if shared else len(magnitude)
    if count <= BINS:
        centres = gathered(magnitude) if shared else magnitude
        counts = torch.ones_like(centres)
    else:
        centres, counts = _histogram(magnitude, top, shared)

    # Magnitudes meet the unsigned grid with the same q_max, except that one signed bit has no zero.
    signed = signed and not bool(bits > 1)

    def loss(edges: Tensor) -> Tensor:
        steps = (edges / q_max).clamp_min(SMALLEST_STEP).unsqueeze(1)
        codes = to_levels(centres, steps, bits, signed=signed, largest=q_max).codes
        return codes.mul_(steps).sub_(centres).abs_().pow_(EXPONENT) @ counts

    # Clipping edges s·q_max: in equal ratios from far inside the range to where the largest value sits at the last
    # rounding boundary, and in equal distances, since the loss of a small tensor is jagged.
    lowest, highest = math.log(_SMALLEST_EDGE), torch.log(q_max / (q_max - 0.5))
    ratios = torch.exp(lowest + (highest - lowest) * torch.linspace(0, 1, _RATIOS, device=values.device))
    distances = torch.arange(1, _DISTANCES + 1, device=values.device) / _DISTANCES
    coarse = top * torch.cat([ratios, distances]).sort().values
    best = loss(coarse).argmin()
    near = torch.lerp(
        coarse[(best - 1).clamp_min(0)],
        coarse[(best + 1).clamp_max(len(coarse) - 1)],
        torch.linspace(0, 1, _FINE, device=values.device),
    )
    fine = torch.cat([near, coarse[best].view(1)])
    return (fine[loss(fine).argmin()] / q_max).clamp_min(SMALLEST_STEP)


def _histogram(magnitude: Tensor, top: Tensor, shared: bool) -> tuple[Tensor, Tensor]:
    """(mean value, count) of every bin, each ``[BINS]``; ``shared``, over all processes' shares.

    Bins have equal width in √|x|: finer where most values lie, so that one outlier does not blur the rest.
    """
    spacing = (top / BINS**2).clamp_min(torch.finfo(torch.float32).tiny)
    index = (magnitude / spacing).sqrt_().clamp_(0, BINS - 1).long()
    counts = torch.bincount(index, minlength=BINS).float()
    sums = torch.zeros_like(counts).scatter_add_(0, index, magnitude)
    if shared:
        sums, counts = total(torch.stack([sums, counts]))
    return sums / counts.clamp_min(1), counts
