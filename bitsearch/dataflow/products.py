"""Multiply-accumulates: of a layer's call by formula, of what happens between the layers by torch's flop counter."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


def flop_counter() -> FlopCounterMode:
    """Torch's counter, with the products of vectors that it leaves out; it takes a multiply-accumulate for two."""
    return FlopCounterMode(display=False, custom_mapping=_VECTOR_PRODUCTS)


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
    elements)·(C_out / groups)·∏kernel, those that ``padding`` crops included; a linear layer (output elements)·(input
    features); a recurrent one every weight once a step. These are the conventions of :mod:`torch.utils.flop_counter`.
    """
    x, y = first_tensor(arguments), first_tensor(output)
    if x is None or y is None:
        return 0
    if isinstance(module, nn.Linear):
        return y.numel() * module.in_features
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return y.numel() * (module.in_channels // module.groups) * prod(module.kernel_size)
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return x.numel() * (module.out_channels // module.groups) * prod(module.kernel_size)
    if isinstance(module, nn.RNNBase):
        return x.numel() // x.shape[-1] * sum(weight.numel() for weight in module.parameters() if weight.dim() == 2)
    return 0


def _vector_product(shape: tuple[int, ...], *_: Any, **__: Any) -> int:
    return 2 * prod(shape)


def _added_product(_: Any, shape: tuple[int, ...], *__: Any, **___: Any) -> int:
    return 2 * prod(shape)


_VECTOR_PRODUCTS = {
    torch.ops.aten.mv: _vector_product,
    torch.ops.aten.dot: _vector_product,
    torch.ops.aten.addmv: _added_product,
}
"""Flops by the shapes of the operands."""
