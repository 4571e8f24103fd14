"""Multiply-accumulates: of a layer's call by formula, of what happens between the layers by torch's flop counter."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count


def flop_counter() -> FlopCounterMode:
    """Torch's counter, in which a multiply-accumulate is two operations.

    The products of vectors, which it leaves out, are in; those that a transposed convolution's padding crops are not.
    """
    return FlopCounterMode(display=False, custom_mapping=_FLOPS)


@contextmanager
def products_in_sight() -> Iterator[None]:
    """Attention as single matrix products, since the flop counter knows none of the fused kernels on a CPU."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def first_tensor(tree: Any) -> Tensor | None:
    """The first tensor in a nest of arguments or results; None if there is none."""
    return next((leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)), None)


def layer_macs(module: nn.Module, arguments: Any, output: Any) -> int:
    """Multiply-accumulates of a call for the whole batch; 0 for modules that have no formula here.

    A convolution takes (output elements)·(C_in / groups)·∏kernel, padding included; a transposed one (input
    elements)·(C_out / groups)·∏kernel less what falls outside of its output, where ``padding`` crops it; a linear layer
    (output elements)·(input features); a recurrent one every weight once a step. But for what is cropped, these are the
    conventions of :mod:`torch.utils.flop_counter`.
    """
    x, y = first_tensor(arguments), first_tensor(output)
    if x is None or y is None:
        return 0
    if isinstance(module, nn.Linear):
        return y.numel() * module.in_features
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return y.numel() * (module.in_channels // module.groups) * prod(module.kernel_size)
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        axes = len(module.kernel_size)
        inputs = x.numel() // prod(x.shape[-axes:])
        geometry = (module.kernel_size, module.stride, module.padding, module.dilation)
        taps = _transposed_taps(x.shape[-axes:], y.shape[-axes:], *geometry)  # type: ignore[arg-type]  # number or tuple
        return inputs * (module.out_channels // module.groups) * taps
    if isinstance(module, nn.RNNBase):
        return x.numel() // x.shape[-1] * sum(weight.numel() for weight in module.parameters() if weight.dim() == 2)
    return 0


def _transposed_taps(
    before: Sequence[int],
    after: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> int:
    """How many taps k of a transposed convolution's positions i reach its output.

    That is where 0 ≤ i·stride + k·dilation − padding < size, along every axis.
    """
    pairs = 1
    for length, size, taps, step, pad, spread in zip(before, after, kernel, stride, padding, dilation, strict=True):
        shifts = [pad - tap * spread for tap in range(taps)]
        firsts = [max(-(-shift // step), 0) for shift in shifts]
        lasts = [min((size - 1 + shift) // step, length - 1) for shift in shifts]
        pairs *= sum(max(last - first + 1, 0) for first, last in zip(firsts, lasts, strict=True))
    return pairs


def _convolution(
    x: Sequence[int],
    weight: Sequence[int],
    _: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    *__: Any,
    out_shape: Sequence[int],
    **___: Any,
) -> int:
    if not transposed:
        return conv_flop_count([*x], [*weight], [*out_shape])
    samples, inputs, *before = x
    _, outputs, *kernel = weight
    return 2 * samples * inputs * outputs * _transposed_taps(before, out_shape[2:], kernel, stride, padding, dilation)


def _vector_product(shape: tuple[int, ...], *_: Any, **__: Any) -> int:
    return 2 * prod(shape)


def _added_product(_: Any, shape: tuple[int, ...], *__: Any, **___: Any) -> int:
    return 2 * prod(shape)


_FLOPS = {
    torch.ops.aten.convolution: _convolution,
    torch.ops.aten.mv: _vector_product,
    torch.ops.aten.dot: _vector_product,
    torch.ops.aten.addmv: _added_product,
}
"""Flops by the shapes of the operands."""
