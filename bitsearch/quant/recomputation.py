"""Recomputation: what a quantizer returns is computed again in backward instead of being kept.

A convolution saves both operands for its backward pass. Spikes and quantized weights are functions of tensors that are
kept anyway, so that keeping them too costs a network half as much memory again.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

Recompute = Callable[[], Tensor]

SMALLEST = 2**16
"""Elements from which an operand is recomputed; a smaller one takes longer to compute than it saves."""

_active = False


@contextmanager
def recomputed_operands() -> Iterator[None]:
    """Inside, quantized layers train with less memory, for a few percent of the time; the result is the same."""
    global _active
    before, _active = _active, True
    try:
        yield
    finally:
        _active = before


def recomputed(*operands: tuple[Tensor, Recompute]) -> AbstractContextManager[object]:
    """Inside :func:`recomputed_operands`, operations in here keep only how to compute the given tensors again.

    The function is called once a saved use, without gradients; what it reads must not change before backward.
    """
    # A compiler of the whole network decides itself what to keep.
    if not _active or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return nullcontext()
    # Known by address: the hooks live as long as the graph, and must not keep the operands alive themselves.
    known = {
        (operand.data_ptr(), operand.numel()): recompute
        for operand, recompute in operands
        if operand.numel() >= SMALLEST
    }

    def pack(saved: Tensor) -> Tensor | Recompute:
        recompute = known.get((saved.data_ptr(), saved.numel()))
        if recompute is None:
            return saved
        # It may be a view of the operand, as the transposed weight of a linear layer is.
        size, stride = saved.size(), saved.stride()
        return lambda: recompute().as_strided(size, stride)

    def unpack(kept: Tensor | Recompute) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        with torch.no_grad():
            return kept()

    return saved_tensors_hooks(pack, unpack)
