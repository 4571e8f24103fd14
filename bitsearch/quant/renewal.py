r"""Step-size renewal: the best step for a new bit width.

.. math::
    s^* = \arg\min_s \; \mathrm{mean}\, |Q(x; s, b) - x|^p, \qquad p = 2.4

When a bit width changes from b to b′, the old step puts the clipping edge off by about 2^(b′−b); renewal replaces it
at that moment (Yao et al. 2025). The loss is evaluated on a histogram of |x| instead of on x, so that a candidate's
cost does not depend on the size of x.

Half precision does the binning: |x|, scaled to the largest float16, is rounded to float16, and the 16 bits of that
number, read as an integer, are its code. Codes are fine (1,024 in every octave) and are counted without contention;
then neighbours are merged into the bins on which the loss is evaluated: few bins for the coarse grid of steps, and more
for the steps near the best of it.
"""

import functools
import math

import torch
from torch import Tensor

from bitsearch.distributed import all_gather, all_reduce_sum
from bitsearch.distributed import all_reduce_max as largest_of_all
from bitsearch.errors import InputError
from bitsearch.quant.step_sizes import powers_between
from bitsearch.quant.uniform import SMALLEST_STEP, q_max

EXPONENT = 2.4
"""The exponent p of the loss."""
MAX_EXACT_ELEMENTS = 2048
"""Number of elements up to which the loss is evaluated on the tensor instead of a histogram."""

_RATIO_COUNT, _DISTANCE_COUNT, _OUTER_COUNT, _FINE_COUNT = 20, 50, 4, 16
"""Number of candidate edges in equal ratios, in equal distances, beyond the largest value, and near the best."""
_MIN_EDGE, _MAX_RATIO_EDGE = 1e-3, 0.1
"""First and last edge in equal ratios, as shares of the largest value."""

_MIN_ERROR = 1e-30
"""Smallest error whose logarithm is taken."""

_MAX_FLOAT16 = 65504.0
"""The largest float16; its code is the last one of 31 octaves."""
_CODES_PER_OCTAVE = 1024
"""Number of float16 numbers in an octave."""
_OCTAVE_COUNT = 20
"""Number of octaves below the largest value in the histogram; values under 2^-20 of it count as zero."""
_FIRST_CODE = (30 - _OCTAVE_COUNT) * _CODES_PER_OCTAVE
"""First code of the octave that stands for zero; the histogram's octaves follow it."""
_CODE_COUNT = _FIRST_CODE + (_OCTAVE_COUNT + 1) * _CODES_PER_OCTAVE
"""Number of codes, those below the first one included."""
_LANE_COUNT = 64
"""Number of counters over which zeros are spread, since increments of a single counter would wait for each other."""
_CHUNK_ELEMENTS = 1 << 17
"""Number of elements that are scaled at a time, to save memory."""


def renew_step(
    x: Tensor,
    bits: Tensor,
    *,
    signed: bool,
    per_channel: bool = False,
    shared: bool = False,
    power_of_two: bool = False,
) -> Tensor:
    """The step size that quantizes ``x`` to ``bits`` bits with the least mean |Q(x) − x|^2.4.

    Args:
        x: tensor to be quantized, any shape; per channel, its first axis is the channel.
        bits: scalar tensor, the new bit width.
        signed: grid of weights (True) or of spikes (False; negative elements cost the same at every step).
        per_channel: one step a channel.
        shared: ``x`` is this process's share of a tensor whose step is renewed; not with ``per_channel``.
        power_of_two: the best power of two instead of the best step.

    Returns:
        A scalar, or ``[C, 1, ...]`` with ``per_channel``; at least ``SMALLEST_STEP``, which is the step of a tensor of
        zeros and of an empty one.

    Raises:
        InputError: ``x`` holds NaN or infinity.
    """
    values = x.detach().float()
    if not values.numel():
        return values.new_full((x.shape[0], *[1] * (x.dim() - 1)) if per_channel else (), SMALLEST_STEP)
    largest = float(q_max(bits, signed=signed))
    # One signed bit has no zero.
    is_sign_only = signed and not bool(bits > 1)
    if per_channel:
        channel_steps = [
            _best_step(channel, largest, signed, is_sign_only, power_of_two=power_of_two)
            for channel in values.flatten(1)
        ]
        return torch.stack(channel_steps).reshape(-1, *[1] * (x.dim() - 1))
    return _best_step(values.flatten(), largest, signed, is_sign_only, shared, power_of_two)


def check_finite(x: Tensor) -> None:
    """Raise InputError if ``x`` holds NaN or infinity."""
    if x.numel():
        _bounds(x)


def _bounds(x: Tensor) -> tuple[float, float]:
    """(least, largest) element; InputError if ``x``, which is not empty, holds NaN or infinity."""
    least, greatest = (float(bound) for bound in x.aminmax())
    if not math.isfinite(least + greatest):
        raise InputError("a tensor to be quantized holds NaN or infinity; lower the learning rate, or check the data")
    return least, greatest


def _best_step(
    values: Tensor,
    largest: float,
    signed: bool,
    is_sign_only: bool,
    shared: bool = False,
    power_of_two: bool = False,
) -> Tensor:
    # Both grids treat x and −x alike, or (unsigned) negative values alike at every step: magnitudes are enough.
    least, greatest = _bounds(values)
    top, count = max(-least, greatest) if signed else max(greatest, 0.0), len(values)
    if shared:
        top = float(largest_of_all(values.new_tensor(top)))
        count = int(all_reduce_sum(torch.tensor(count, device=values.device)))
    # Values and steps are in this unit, so that no power over- or underflows. No step is smaller.
    unit = max(top, SMALLEST_STEP)
    coarse_bins: tuple[Tensor, Tensor | None]
    fine_bins: tuple[Tensor, Tensor | None]
    if count > MAX_EXACT_ELEMENTS:
        sums = _running_sums(_count_codes(values, unit, signed, shared))
        # Few levels need few bins; the final choice needs more.
        resolution = 128 if largest < 32 else 256 if largest < 128 else 512
        coarse_bins, fine_bins = _merge(sums, resolution), _merge(sums, min(4 * resolution, _CODES_PER_OCTAVE))
    else:
        magnitude = values.abs() if signed else values.clamp_min(0)
        coarse_bins = fine_bins = (all_gather(magnitude) if shared else magnitude) / unit, None

    def loss(edges: Tensor, bins: tuple[Tensor, Tensor | None]) -> Tensor:
        centres, counts = bins
        steps = (edges * (top / unit / largest)).clamp_min_(SMALLEST_STEP / unit)
        scaled = centres / steps.unsqueeze(1)
        levels = 1.0 if is_sign_only else scaled.clamp_max(largest).round_()
        # A power by its logarithm takes a quarter of pow's time, except for 0, which takes three times as long. The
        # power of the smallest error is 0 again.
        errors = scaled.sub_(levels).abs_().clamp_min_(_MIN_ERROR).log2_().mul_(EXPONENT).exp2_()
        return steps.pow(EXPONENT) * (errors.sum(1) if counts is None else errors @ counts)

    coarse_edges = _coarse_edges(largest, values.device)
    if power_of_two:
        # A dozen, few enough to try them all.
        least, most = (max(float(edge) * top / largest, SMALLEST_STEP) for edge in (coarse_edges[0], coarse_edges[-1]))
        powers = powers_between(least, most).to(values.device)
        return powers[loss(powers * (largest / unit), fine_bins).argmin()]
    best = int(loss(coarse_edges, coarse_bins).argmin())
    between = torch.lerp(
        coarse_edges[max(best - 1, 0)],
        coarse_edges[min(best + 1, len(coarse_edges) - 1)],
        torch.linspace(0, 1, _FINE_COUNT, device=values.device),
    )
    fine_edges = torch.cat([between, coarse_edges[best].view(1)])
    return (fine_edges[loss(fine_edges, fine_bins).argmin()] * (top / largest)).clamp_min(SMALLEST_STEP)


@functools.cache
def _coarse_edges(largest: float, device: torch.device) -> Tensor:
    """Clipping edges s·q_max as shares of the largest value, ascending.

    Edges are at equal distances, since the loss of a small tensor is jagged; at equal ratios far inside the range; and
    beyond it, up to the edge at which the largest value is at the last rounding boundary.
    """
    ratios = torch.logspace(math.log10(_MIN_EDGE), math.log10(_MAX_RATIO_EDGE), _RATIO_COUNT)
    distances = torch.arange(1, _DISTANCE_COUNT + 1) / _DISTANCE_COUNT
    outer = 1 + (largest / (largest - 0.5) - 1) * torch.arange(1, _OUTER_COUNT + 1) / _OUTER_COUNT
    return torch.cat([ratios, distances, outer]).sort().values.to(device)


def _count_codes(values: Tensor, unit: float, signed: bool, shared: bool = False) -> Tensor:
    """The number of magnitudes, all at most ``unit``, of each code from ``_FIRST_CODE`` on; ``[codes]``.

    With ``shared``, the sum over all processes' shares.
    """
    numbers = torch.empty_like(values, dtype=torch.float16)
    for value_chunk, number_chunk in zip(values.split(_CHUNK_ELEMENTS), numbers.split(_CHUNK_ELEMENTS), strict=True):
        number_chunk.copy_(value_chunk * (_MAX_FLOAT16 / unit))
    codes = numbers.view(torch.int16)
    if signed:
        # Clear the sign. On an unsigned grid, the codes of negative numbers are negative.
        codes.bitwise_and_(0x7FFF)
    lanes, row_elements = _lanes(values.device), len(codes) - len(codes) % _CODES_PER_OCTAVE
    rows, remainder = codes[:row_elements].view(-1, _CODES_PER_OCTAVE), codes[row_elements:]
    torch.maximum(rows, lanes, out=rows)
    torch.maximum(remainder, lanes[: len(remainder)], out=remainder)
    counts = torch.bincount(codes, minlength=_CODE_COUNT)[_FIRST_CODE:]
    return all_reduce_sum(counts) if shared else counts


@functools.cache
def _lanes(device: torch.device) -> Tensor:
    """The smallest codes, ``[_CODES_PER_OCTAVE]``: a smaller code is raised to that of its lane, and counts as zero."""
    return (_FIRST_CODE + torch.arange(_CODES_PER_OCTAVE) % _LANE_COUNT).to(torch.int16).to(device)


def _merge(sums: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """(mean magnitude relative to the largest possible, count) of every bin; exact sums, in any order."""
    counts, magnitudes = sums[:, _last_codes(sums.device, resolution)].diff(prepend=sums.new_zeros(2, 1))
    return magnitudes / counts.clamp_min(1) / (_MAX_FLOAT16 * 2**_FRACTION_BITS), counts.float()


_FRACTION_BITS = _OCTAVE_COUNT - 6
"""The float16 numbers of the histogram's octaves are whole multiples of 2^-_FRACTION_BITS."""


def _running_sums(counts: Tensor) -> Tensor:
    """``[2, codes]``: number of magnitudes up to each code, and 2^_FRACTION_BITS times the sum of their numbers."""
    return torch.stack([counts, counts * _integers(counts.device)]).cumsum(1)


@functools.cache
def _integers(device: torch.device) -> Tensor:
    """2^_FRACTION_BITS times the number that each code from ``_FIRST_CODE`` on stands for; ``[codes]``."""
    codes = torch.arange(_FIRST_CODE, _CODE_COUNT, dtype=torch.int16)
    integers = (codes.view(torch.float16).double() * 2**_FRACTION_BITS).long()
    integers[:_CODES_PER_OCTAVE] = 0
    result: Tensor = integers.to(device)
    return result


@functools.cache
def _last_codes(device: torch.device, resolution: int) -> Tensor:
    """The last code of every bin, ascending, counted from ``_FIRST_CODE``.

    The two highest octaves have ``resolution`` bins each, the next two half as many, and so on: like bins of equal
    width in √|x|, finer where most values lie, so that one outlier does not coarsen the bins of all others. Besides the
    bin of zero, there are about four times ``resolution`` bins.
    """
    widths = [_CODES_PER_OCTAVE]
    for octave in reversed(range(_OCTAVE_COUNT)):
        width = min((_CODES_PER_OCTAVE // resolution) << octave // 2, _CODES_PER_OCTAVE)
        widths += [width] * (_CODES_PER_OCTAVE // width)
    return (torch.tensor(widths).cumsum(0) - 1).to(device)
