"""Recomputation: backward computes a quantizer's output again, instead of saving it in forward.

A convolution saves both operands for its backward pass. Spikes and quantized weights are functions of tensors that are
saved anyway, so that saving them too costs half as much memory again.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

Recompute = Callable[[], Tensor]

MIN_ELEMENTS = 2**16
"""Number of elements from which an operand is recomputed; for a smaller one, the time outweighs the memory."""

_is_active = False


@contextmanager
def recomputed_operands() -> Iterator[None]:
    """A context in which quantized layers train with less memory and a few percent more time, with the same result."""
    global _is_active
    was_active, _is_active = _is_active, True
    try:
        yield
    finally:
        _is_active = was_active


def recomputed(*operands: tuple[Tensor, Recompute]) -> AbstractContextManager[object]:
    """A context whose operations save a function that recomputes an operand instead of the operand.

    It has no effect outside of :func:`recomputed_operands`. The function runs once for every saved use, without
    gradients; the tensors that it reads must not change before backward.
    """
    # A compiler of the whole network decides itself which tensors to save.
    if not _is_active or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return nullcontext()
    # Known by address: the hooks live as long as the graph, and must not keep the operands alive themselves.
    recompute_by_address = {
        (operand.data_ptr(), operand.numel()): recompute
        for operand, recompute in operands
        if operand.numel() >= MIN_ELEMENTS
    }

    def pack(saved: Tensor) -> Tensor | Recompute:
        recompute = recompute_by_address.get((saved.data_ptr(), saved.numel()))
        if recompute is None:
            return saved
        # The saved tensor may be a view of the operand, as the transposed weight of a linear layer is.
        size, stride = saved.size(), saved.stride()
        return lambda: recompute().as_strided(size, stride)

    def unpack(packed: Tensor | Recompute) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        with torch.no_grad():
            return packed()

    return saved_tensors_hooks(pack, unpack)
