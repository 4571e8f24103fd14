r"""Uniform quantizer with a learnable step size and a learnable bit width.

.. math::
    \bar x = \mathrm{clip}(\mathrm{round}(x / s),\, q_{min},\, q_{max}), \qquad Q(x) = s \cdot \bar x

Signed tensors (weights, network inputs): :math:`q_{max} = 2^{b-1} - 1`, :math:`q_{min} = -q_{max}`; one bit is
:math:`\pm 1`. Unsigned tensors (spikes): :math:`q_{max} = 2^b - 1`, :math:`q_{min} = 0`; one bit is {0, 1}.

Sources: the step's gradient is LSQ's (Esser et al. 2020), the bit width's is that of Yao et al. 2025
(arXiv 2506.23717): the derivative of the clipping edge :math:`s \cdot q_{max}` with respect to b.
"""

from typing import Any, NamedTuple, overload

import torch
from torch import Tensor

from bitsearch.distributed import all_reduce_sum, world_size
from bitsearch.quant.compilation import compilable
from bitsearch.quant.step_sizes import LN2

SMALLEST_STEP = 1e-8
"""Lower bound of step sizes, which keeps a division by a step finite."""


class Levels(NamedTuple):
    """The integer levels of a tensor and the numbers they come from; all but ``largest`` are shaped like x."""

    codes: Tensor
    """Integer levels x̄, of float dtype."""
    scaled: Tensor
    """x / s."""
    clipped: Tensor
    """x / s between q_min and q_max."""
    largest: Tensor
    """q_max, shaped like ``bits``."""


def working_precision(x: Tensor) -> Tensor:
    """``x``, cast to float32 from half precision (bfloat16 or float16, as under autocast)."""
    return x.float() if x.dtype.itemsize < 4 else x


def cast_like(result: Tensor, x: Tensor) -> Tensor:
    """``result`` in the dtype of ``x``, after computation in :func:`working_precision`."""
    # A cast to the same dtype at the end of an autograd function cuts its gradients off under torch.compile (2.11).
    return result if result.dtype == x.dtype else result.to(x.dtype)


@overload
def q_max(bits: int, *, signed: bool) -> int: ...
@overload
def q_max(bits: Tensor, *, signed: bool) -> Tensor: ...
def q_max(bits: Any, *, signed: bool) -> Any:
    """The largest level of a ``bits``-bit grid: 2^(b−1) − 1 signed (1 at one bit), 2^b − 1 unsigned.

    A whole number for a whole number, a tensor shaped like ``bits`` for a tensor.

    >>> q_max(3, signed=True), q_max(3, signed=False)
    (3, 7)
    """
    if isinstance(bits, int):
        return max(2 ** (bits - 1) - 1, 1) if signed else 2**bits - 1
    if signed:
        return (torch.exp2(bits - 1) - 1).clamp_min(1)
    return torch.exp2(bits) - 1


def to_levels(x: Tensor, step: Tensor, bits: Tensor, *, signed: bool, largest: Tensor | None = None) -> Levels:
    """Integer levels of ``x``.

    Args:
        x: any shape.
        step: positive; a scalar, or broadcastable to ``x`` (one per output channel).
        bits: scalar tensor holding a whole number of at least 1.
        signed: weights and signed inputs True, spikes False.
        largest: q_max of ``bits``; None computes it.
    """
    scaled = working_precision(x) / step
    if largest is None:
        largest = q_max(bits, signed=signed)
    if not signed:
        # In place: what is allocated anew takes twice as long on a CPU as what is computed.
        clipped = scaled.clamp_min(0).clamp_max_(largest)
        return Levels(torch.round(clipped), scaled, clipped, largest)
    # With tensors, two one-sided bounds are faster than one call with both.
    clipped = scaled.clamp_min(-largest).clamp_max_(largest)
    # One bit has no zero: the sign alone, with 0 counted as positive; NaN stays.
    sign = torch.where(scaled < 0, -1.0, torch.where(scaled >= 0, 1.0, scaled))
    codes = torch.where(bits > 1, torch.round(clipped), sign)
    return Levels(codes, scaled, clipped, largest)


def inside_range(levels: Levels) -> Tensor:
    """Boolean mask of the elements with q_min ≤ x/s ≤ q_max, shaped like x, through which the gradient passes."""
    return levels.scaled == levels.clipped


def step_gradient_scale(elements_per_step: int, largest: Tensor) -> Tensor:
    """LSQ's gradient scale 1/√(numel·q_max) (Esser et al. 2020, section 2.2); shaped like ``largest``."""
    return torch.rsqrt(max(elements_per_step, 1) * largest)


def edge_derivative(step: Tensor, bits: Tensor, *, signed: bool) -> Tensor:
    """∂(s·q_max)/∂b: ln2·s·2^(b−1) signed, ln2·s·2^b unsigned; shaped like ``step``.

    A signed tensor's edge is at ±s for one bit and for two bits alike, so its derivative at one bit is 0 (our reading;
    the paper gives b ≥ 2 only).
    """
    if signed:
        return torch.where(bits > 1, LN2 * step * torch.exp2(bits - 1), torch.zeros_like(step))
    return LN2 * step * torch.exp2(bits)


def level_gradients(
    grad: Tensor, inside_grad: Tensor, levels: Levels, step: Tensor, bits: Tensor, *, signed: bool
) -> tuple[Tensor, Tensor]:
    """(ds, db) of s·x̄: ds shaped like ``step``, with LSQ's gradient scale, applied only here; db a scalar.

    Args:
        grad: incoming gradient g, shaped like x.
        inside_grad: g·I, the gradient of x.
        levels: of x.
        step: as for :func:`to_levels`.
        bits: as for :func:`to_levels`.
        signed: as for :func:`to_levels`.
    """
    # Outside the range x̄ is ±q_max or 0, so that x̄/q_max is its sign and both gradients share one sum.
    edge = ((grad - inside_grad) * levels.codes).sum_to_size(step.shape)
    rounding = ((levels.codes - levels.clipped) * inside_grad).sum_to_size(step.shape)
    scale = step_gradient_scale(grad.numel() // max(step.numel(), 1), levels.largest)
    grad_bits = (edge / levels.largest * edge_derivative(step, bits, signed=signed)).sum()
    return (edge + rounding) * scale, grad_bits


# The kernels get q_max as an input: a compiled loop would take a power of two for every eight elements.
@compilable
def quantized(x: Tensor, step: Tensor, bits: Tensor, largest: Tensor, *, signed: bool) -> Tensor:
    """The values of :func:`quantize`, without analytic gradients; ``largest`` is q_max of ``bits``."""
    return cast_like(to_levels(x, step, bits, signed=signed, largest=largest).codes * step, x)


@compilable
def _quantized_backward(
    grad: Tensor, x: Tensor, step: Tensor, bits: Tensor, largest: Tensor, *, signed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    levels = to_levels(x, step, bits, signed=signed, largest=largest)
    grad = working_precision(grad)
    grad_x = grad * inside_range(levels)
    return cast_like(grad_x, x), *level_gradients(grad, grad_x, levels, step, bits, signed=signed)


class _Quantize(torch.autograd.Function):
    """Saves its inputs only and recomputes the levels in backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, bits: Tensor, latent: Tensor | None, signed: bool) -> Tensor:
        largest = q_max(bits, signed=signed)
        ctx.save_for_backward(x, step, bits, largest)
        ctx.signed = signed
        return quantized(x, step, bits, largest, signed=signed)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_step, grad_bits = _quantized_backward(grad, *ctx.saved_tensors, signed=ctx.signed)
        return grad_x, grad_step, None, grad_bits if ctx.needs_input_grad[3] else None, None


def quantize(x: Tensor, step: Tensor, bits: Tensor, latent: Tensor | None = None, *, signed: bool) -> Tensor:
    """Q(x) = s·x̄, shaped like ``x``, differentiable in ``x``, ``step`` and ``latent``.

    Args:
        x: tensor of any shape.
        step: positive scalar, or one per output channel as ``[C, 1, ...]``.
        bits: scalar tensor, the rounded bit width that the forward pass uses.
        latent: scalar tensor b̂ that receives the bit width's gradient; None for fixed bits.
        signed: True for weights and signed inputs, False for spikes.

    Gradients: dx = g·I; ds = Σ g·(x̄ − (x/s)·I)/√(numel·q_max); db̂ = Σ over clipped elements of
    g·sign(x̄)·∂(s·q_max)/∂b. NaN stays NaN. Half-precision ``x`` is quantized in float32, the result has its dtype.
    """
    if not torch.is_grad_enabled():
        return cast_like(to_levels(x, step, bits, signed=signed).codes * step, x)
    result: Tensor = _Quantize.apply(x, step, bits, latent, signed)
    return result


def initial_step(x: Tensor, bits: Tensor, *, signed: bool, per_channel: bool = False, shared: bool = False) -> Tensor:
    """LSQ's initial step 2·mean|x|/√q_max, of x clipped at zero on an unsigned grid.

    A scalar, or ``[C, 1, ...]`` over x's first axis with ``per_channel``; ``shared`` as for
    :func:`bitsearch.quant.renewal.renew_step`.
    """
    # An unsigned grid clips what is negative.
    magnitude = (x.detach().abs() if signed else x.detach().clamp_min(0)).float()
    if per_channel:
        mean = magnitude.flatten(1).mean(1).reshape(-1, *[1] * (x.dim() - 1))
    elif shared and world_size() > 1:
        total, count = all_reduce_sum(torch.stack([magnitude.sum(), magnitude.new_tensor(float(magnitude.numel()))]))
        mean = total / count
    else:
        mean = magnitude.mean()
    return (2 * mean / q_max(bits, signed=signed).sqrt()).clamp_min(SMALLEST_STEP)
