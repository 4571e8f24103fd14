"""What a network does in one forward pass, call by call: multiply-accumulates, input shapes, parameters in use.

Convolutions, linear and recurrent layers are counted by a formula. Everything else, and whatever happens between the
layers, is found by torch's flop counter, so that no product goes missing because nobody thought of its module.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bitsearch.frameworks.eval_mode import eval_mode
from bitsearch.frameworks.spikingjelly import LAYERS, is_multi_step, reset_states

QUANTIZABLE: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *LAYERS)
"""The layers that can be given bits, SpikingJelly's own among them. Other subclasses compute something else, so they
are left as they are."""


@dataclass(frozen=True)
class Call:
    """One call of one module, for the whole batch and without what the modules it called did."""

    shape: tuple[int, ...]
    """Shape of the first tensor among its arguments; empty if there is none."""
    macs: int
    negative: bool
    """True if that tensor went below zero."""
    is_static_input: bool
    """True if that tensor has a time axis on which nothing changes."""


@dataclass
class Recording:
    """What :func:`record` saw."""

    batch: int
    """Inputs in the example, as far as its first axis tells."""
    calls: dict[nn.Module, list[Call]] = field(default_factory=dict)
    """In the order in which the modules first finished: a layer before the block it belongs to."""
    used: set[nn.Parameter] = field(default_factory=set)
    """Parameters that some operation took, inside their own module or outside."""
    sequences: set[tuple[int, int]] = field(default_factory=set)
    """(T, N) of the example's time axis, or that modules in spikingjelly's multi-step mode saw."""

    def samples(self, shape: tuple[int, ...]) -> int:
        """How many inputs, times time steps, a tensor of this shape holds.

        T·N if it is ``[T, N, ...]`` or ``[T·N·…, ...]`` and modules in multi-step mode told T; else N if it is
        ``[N·…, ...]`` or ``[…, N, ...]``; else 1, for it does not depend on the batch.
        """
        leading = shape[:1]
        frames = self.frames(shape)
        for steps, batch in self.sequences:
            if steps == frames:
                return steps * batch
        for batch in {batch for _, batch in self.sequences} or {self.batch}:
            if batch in shape[:2] or _multiple(leading, batch):
                return batch
        return 1

    def frames(self, shape: tuple[int, ...]) -> int | None:
        """T if a tensor of this shape has a time axis, ``[T, N, ...]`` or folded, ``[T·N·…, ...]``; else None.

        A single frame is no time axis: it is as good as a static input.
        """
        for steps, batch in self.sequences:
            if steps == 1:
                continue
            if shape[:2] == (steps, batch) or _multiple(shape[:1], steps * batch):
                return steps
        return None


def _multiple(leading: tuple[int, ...], of: int) -> bool:
    return any(size % of == 0 for size in leading)


def record(network: nn.Module, example_input: Tensor, *, time_axis: bool = False) -> Recording:
    """Run ``example_input`` (``[N, ...]``) through ``network`` once, in evaluation mode and without gradients.

    With ``time_axis``, the example is ``[T, N, ...]``. States of spiking neurons are reset before and after.

    A convolution takes (output elements)·(C_in / groups)·∏kernel multiply-accumulates, padding included; a transposed
    one (input elements)·(C_out / groups)·∏kernel, those that ``padding`` crops included; a linear layer (output
    elements)·(input features); a recurrent one every weight once a step. These are the conventions of
    :mod:`torch.utils.flop_counter`. Element-wise operations, biases, norms and pooling do not multiply and accumulate.
    """
    recording = Recording(example_input.shape[0])
    if time_axis:
        recording.sequences.add((example_input.shape[0], example_input.shape[1]))
    counter = FlopCounterMode(display=False, custom_mapping=_VECTOR_PRODUCTS)
    running: list[_Running] = []

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = _first_tensor((args, kwargs))
        if is_multi_step(module) and x is not None and x.dim() >= 2:
            recording.sequences.add((x.shape[0], x.shape[1]))
        running.append(_Running(counter.get_total_flops()))

    def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        this = running.pop()
        # The flop counter counts a multiply-accumulate as two operations.
        own = (counter.get_total_flops() - this.flops_before) // 2 - this.inside
        x, formula = _first_tensor((args, kwargs)), _formula(module, (args, kwargs), output)
        # A hook's products do not belong to a layer that can be given bits: they go to the module around it.
        macs = formula if type(module) in QUANTIZABLE else max(formula, own)
        if running:
            running[-1].inside += this.inside + min(own, macs)
        shape = () if x is None else tuple(x.shape)
        negative = x is not None and bool((x < 0).any())
        is_static_input = x is not None and _is_static(x, recording.frames(shape))
        call = Call(shape, macs, negative, is_static_input)
        recording.calls.setdefault(module, []).append(call)

    with ExitStack() as hooks, torch.no_grad(), eval_mode(network), _products_in_sight():
        for module in network.modules():
            hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(after, with_kwargs=True).remove)
        reset_states(network)
        hooks.callback(reset_states, network)
        with counter, _ParametersInUse(recording.used):
            network(example_input)
    return recording


@dataclass
class _Running:
    """A call that has not returned yet."""

    flops_before: int
    inside: int = 0
    """Multiply-accumulates that the calls inside it account for."""


class _ParametersInUse(TorchFunctionMode):
    """Collects the parameters that operations take, so that weights in use are not mistaken for spare ones."""

    def __init__(self, used: set[nn.Parameter]) -> None:
        super().__init__()
        self.used = used

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # Asking for a parameter's shape or type is no use of it.
        if _first_tensor(result) is not None:
            self.used.update(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, nn.Parameter))
        return result


@contextmanager
def _products_in_sight() -> Iterator[None]:
    """Attention as single matrix products, since the flop counter knows none of the fused kernels on a CPU."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _is_static(x: Tensor, frames: int | None) -> bool:
    if frames is None:
        return False
    sequence = x if x.shape[0] == frames else x.reshape(frames, -1)
    return bool((sequence == sequence[:1]).all())


def _first_tensor(tree: Any) -> Tensor | None:
    return next((leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)), None)


def _formula(module: nn.Module, arguments: Any, output: Any) -> int:
    """Multiply-accumulates of a call by the formulas of :func:`record`; 0 for modules that have none there."""
    x, y = _first_tensor(arguments), _first_tensor(output)
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
"""Flops of the products that the flop counter leaves out; the shapes are those of the operands."""
