r"""Step-size renewal: the best step for a new bit width.

.. math::
    s^* = \arg\min_s \; \mathrm{mean}\, |Q(x; s, b) - x|^p, \qquad p = 2.4

When a bit width changes from b to b′, the old step puts the clipping edge off by about 2^(b′−b); renewal replaces it
at that moment (Yao et al. 2025). The loss is evaluated on a histogram of |x| instead of on x itself, so that its price
does not depend on the number of candidates.

Half precision does the binning: |x|, scaled to the largest float16, is rounded to float16, and the 16 bits of that
number, read as an integer, are its bin. They are fine (1,024 in every octave) and are counted without contention; then
neighbours are merged into the bins on which the loss is evaluated: few for many steps, more for those near the best.
"""

import functools
import math

import torch
from torch import Tensor

from bitsearch.distributed import all_gather, all_reduce_sum
from bitsearch.distributed import all_reduce_max as largest_of_all
from bitsearch.errors import InputError
from bitsearch.quant.uniform import SMALLEST_STEP, q_max

EXPONENT = 2.4
SMALL = 2048
"""A tensor of at most so many elements is taken as it is."""

_RATIOS, _DISTANCES, _BEYOND, _FINE = 20, 50, 4, 16
_SMALLEST_EDGE, _RATIOS_END = 1e-3, 0.1

_TINY = 1e-30

_TOP = 65504.0
"""The largest float16; its bits are the last of 31 octaves' codes."""
_OCTAVE = 1024
"""Float16 numbers in an octave."""
_OCTAVES = 20
"""Octaves below the largest value that are told apart; what lies under 2^-20 of it counts as zero."""
_FIRST = (30 - _OCTAVES) * _OCTAVE
"""Codes from here up to the next octave's stand for zero; those above are the octaves that are told apart."""
_CODES = _FIRST + (_OCTAVES + 1) * _OCTAVE
_LANES = 64
"""Counters over which zeros are spread: increments of a single one would wait for each other."""
_CHUNK = 1 << 17
"""Elements scaled at a time, so that they take little memory."""


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
    largest = float(q_max(bits, signed=signed))
    # One signed bit has no zero.
    signs_alone = signed and not bool(bits > 1)
    if per_channel:
        found = [_best_step(channel, largest, signed, signs_alone) for channel in values.flatten(1)]
        return torch.stack(found).reshape(-1, *[1] * (x.dim() - 1))
    return _best_step(values.flatten(), largest, signed, signs_alone, shared)


def check_finite(x: Tensor) -> None:
    """Raise InputError if ``x`` holds NaN or infinity."""
    if x.numel():
        _bounds(x)


def _bounds(x: Tensor) -> tuple[float, float]:
    """(least, largest) element; InputError if ``x``, which is not empty, holds NaN or infinity."""
    low, high = (float(bound) for bound in x.aminmax())
    if not math.isfinite(low + high):
        raise InputError("a tensor to be quantized holds NaN or infinity; lower the learning rate, or check the data")
    return low, high


def _best_step(values: Tensor, largest: float, signed: bool, signs_alone: bool, shared: bool = False) -> Tensor:
    # Both grids treat x and −x alike, or (unsigned) negative values alike at every step: magnitudes are enough.
    low, high = _bounds(values)
    top, count = max(-low, high) if signed else max(high, 0.0), len(values)
    if shared:
        top = float(largest_of_all(values.new_tensor(top)))
        count = int(all_reduce_sum(torch.tensor(count, device=values.device)))
    # Everything is in this unit, so that no power over- or underflows. No step is smaller.
    unit = max(top, SMALLEST_STEP)
    wide: tuple[Tensor, Tensor | None]
    narrow: tuple[Tensor, Tensor | None]
    if count > SMALL:
        sums = _running_sums(_count_codes(values, unit, signed, shared))
        # Fewer where there are few levels; for the final choice more.
        resolution = 128 if largest < 32 else 256 if largest < 128 else 512
        wide, narrow = _merge(sums, resolution), _merge(sums, min(4 * resolution, _OCTAVE))
    else:
        magnitude = values.abs() if signed else values.clamp_min(0)
        wide = narrow = (all_gather(magnitude) if shared else magnitude) / unit, None

    def loss(edges: Tensor, bins: tuple[Tensor, Tensor | None]) -> Tensor:
        centres, counts = bins
        steps = (edges * (top / unit / largest)).clamp_min_(SMALLEST_STEP / unit)
        scaled = centres / steps.unsqueeze(1)
        levels = 1.0 if signs_alone else scaled.clamp_max(largest).round_()
        # A power by its logarithm: a quarter of the time of pow, if it is not asked for that of 0, which takes three
        # times as long. The least number's power is 0 again.
        errors = scaled.sub_(levels).abs_().clamp_min_(_TINY).log2_().mul_(EXPONENT).exp2_()
        return steps.pow(EXPONENT) * (errors.sum(1) if counts is None else errors @ counts)

    coarse = _coarse_edges(largest, values.device)
    best = int(loss(coarse, wide).argmin())
    near = torch.lerp(
        coarse[max(best - 1, 0)],
        coarse[min(best + 1, len(coarse) - 1)],
        torch.linspace(0, 1, _FINE, device=values.device),
    )
    fine = torch.cat([near, coarse[best].view(1)])
    return (fine[loss(fine, narrow).argmin()] * (top / largest)).clamp_min(SMALLEST_STEP)


@functools.cache
def _coarse_edges(largest: float, device: torch.device) -> Tensor:
    """Clipping edges s·q_max as shares of the largest value, ascending.

    In equal distances, since the loss of a small tensor is jagged; in equal ratios far inside the range; and beyond it,
    to where the largest value sits at the last rounding boundary.
    """
    ratios = torch.logspace(math.log10(_SMALLEST_EDGE), math.log10(_RATIOS_END), _RATIOS)
    distances = torch.arange(1, _DISTANCES + 1) / _DISTANCES
    beyond = 1 + (largest / (largest - 0.5) - 1) * torch.arange(1, _BEYOND + 1) / _BEYOND
    return torch.cat([ratios, distances, beyond]).sort().values.to(device)


def _count_codes(values: Tensor, unit: float, signed: bool, shared: bool = False) -> Tensor:
    """How many magnitudes, none of which is above ``unit``, have each code from ``_FIRST`` on.

    ``shared``, over all processes' shares.
    """
    numbers = torch.empty_like(values, dtype=torch.float16)
    for part, own in zip(values.split(_CHUNK), numbers.split(_CHUNK), strict=True):
        own.copy_(part * (_TOP / unit))
    code = numbers.view(torch.int16)
    if signed:
        # Without its sign. Where the grid is unsigned, the codes of negative numbers are negative.
        code.bitwise_and_(0x7FFF)
    lanes, whole = _lanes(values.device), len(code) - len(code) % _OCTAVE
    rows, rest = code[:whole].view(-1, _OCTAVE), code[whole:]
    torch.maximum(rows, lanes, out=rows)
    torch.maximum(rest, lanes[: len(rest)], out=rest)
    counts = torch.bincount(code, minlength=_CODES)[_FIRST:]
    return all_reduce_sum(counts) if shared else counts


@functools.cache
def _lanes(device: torch.device) -> Tensor:
    """The least codes, ``[_OCTAVE]``: a smaller code is raised to that of its lane, and counts as zero."""
    return (_FIRST + torch.arange(_OCTAVE) % _LANES).to(torch.int16).to(device)


def _merge(sums: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """(mean magnitude relative to the largest possible, count) of every bin; exact sums, in any order."""
    counts, magnitudes = sums[:, _last_codes(sums.device, resolution)].diff(prepend=sums.new_zeros(2, 1))
    return magnitudes / counts.clamp_min(1) / (_TOP * 2**_FRACTION), counts.float()


_FRACTION = _OCTAVES - 6
"""The float16 numbers of all octaves that are told apart are whole multiples of 2^-this."""


def _running_sums(counts: Tensor) -> Tensor:
    """``[2, codes]``: how many magnitudes have a code up to each, and 2^_FRACTION times the sum of their numbers."""
    return torch.stack([counts, counts * _integers(counts.device)]).cumsum(1)


@functools.cache
def _integers(device: torch.device) -> Tensor:
    """2^_FRACTION times the number that each code from ``_FIRST`` on stands for."""
    codes = torch.arange(_FIRST, _CODES, dtype=torch.int16)
    integers = (codes.view(torch.float16).double() * 2**_FRACTION).long()
    integers[:_OCTAVE] = 0
    return integers.to(device)


@functools.cache
def _last_codes(device: torch.device, resolution: int) -> Tensor:
    """The last code of every bin, ascending, counted from ``_FIRST``.

    The two highest octaves have ``resolution`` bins each, then every second has half as many: like bins of equal width
    in √|x|, finer where most values lie, so that one outlier does not blur the rest. All but zero's bin together are
    about four times ``resolution``.
    """
    widths = [_OCTAVE]
    for octave in reversed(range(_OCTAVES)):
        width = min((_OCTAVE // resolution) << octave // 2, _OCTAVE)
        widths += [width] * (_OCTAVE // width)
    return (torch.tensor(widths).cumsum(0) - 1).to(device)
