"""Recording of one forward pass, call by call: multiply-accumulates, input shapes, parameters in use.

Formulas count convolutions, linear and recurrent layers. Torch's flop counter counts all other modules and the
operations between layers, so that no product is missed for being in an unexpected module.
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
"""The layers that can be given bits, SpikingJelly's included; a subclass may compute something else."""


@dataclass(frozen=True)
class Call:
    """One call of one module on the whole batch, without the calls of other modules inside it."""

    shape: tuple[int, ...]
    """Shape of the first tensor among its arguments; empty if there is none."""
    macs: int
    negative: bool
    """True if the first tensor had negative values."""
    is_static_input: bool
    """True if the first tensor has a time axis along which it is constant."""


@dataclass
class Recording:
    """The calls, parameters and time axes of one forward pass, from :func:`record`."""

    batch: int
    """Length of the example's first axis."""
    calls: dict[nn.Module, list[Call]] = field(default_factory=dict)
    """Calls by module, in the order in which the modules first finished: a layer before its block."""
    used_parameters: set[nn.Parameter] = field(default_factory=set)
    """Parameters that an operation took, inside their module or outside."""
    sequences: set[tuple[int, int]] = field(default_factory=set)
    """(T, N) of the example's time axis, and of the inputs of spikingjelly's modules in multi-step mode."""

    def samples(self, shape: tuple[int, ...]) -> int:
        """The number of inputs, times time steps, in a tensor of this shape.

        T·N for ``[T, N, ...]`` or ``[T·N·…, ...]`` if T is known from :attr:`sequences`; else N for ``[N·…, ...]`` or
        ``[…, N, ...]``; else 1, for a tensor that does not depend on the batch.
        """
        leading = shape[:1]
        frames = self.frames(shape)
        for steps, batch in self.sequences:
            if steps == frames:
                return steps * batch
        for batch in {batch for _, batch in self.sequences} or {self.batch}:
            if batch in shape[:2] or _has_multiple(leading, batch):
                return batch
        return 1

    def frames(self, shape: tuple[int, ...]) -> int | None:
        """T if a tensor of this shape has a time axis, ``[T, N, ...]`` or folded, ``[T·N·…, ...]``; else None.

        A single frame counts as a static input, without a time axis.
        """
        for steps, batch in self.sequences:
            if steps == 1:
                continue
            if shape[:2] == (steps, batch) or _has_multiple(shape[:1], steps * batch):
                return steps
        return None


def _has_multiple(leading: tuple[int, ...], divisor: int) -> bool:
    return any(size % divisor == 0 for size in leading)


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

    def start_call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = _first_tensor((args, kwargs))
        if is_multi_step(module) and x is not None and x.dim() >= 2:
            recording.sequences.add((x.shape[0], x.shape[1]))
        running.append(_Running(counter.get_total_flops()))

    def finish_call(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        running_call = running.pop()
        # The flop counter counts a multiply-accumulate as two operations.
        module_macs = (counter.get_total_flops() - running_call.flops_before) // 2 - running_call.inner_macs
        x, formula = _first_tensor((args, kwargs)), _formula(module, (args, kwargs), output)
        # The products of a hook on a layer that can be given bits count for the module around the layer.
        macs = formula if type(module) in QUANTIZABLE else max(formula, module_macs)
        if running:
            running[-1].inner_macs += running_call.inner_macs + min(module_macs, macs)
        shape = () if x is None else tuple(x.shape)
        negative = x is not None and bool((x < 0).any())
        is_static_input = x is not None and _is_static(x, recording.frames(shape))
        call = Call(shape, macs, negative, is_static_input)
        recording.calls.setdefault(module, []).append(call)

    with ExitStack() as hooks, torch.no_grad(), eval_mode(network), _unfused_attention():
        for module in network.modules():
            hooks.callback(module.register_forward_pre_hook(start_call, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(finish_call, with_kwargs=True).remove)
        reset_states(network)
        hooks.callback(reset_states, network)
        with counter, _ParametersInUse(recording.used_parameters):
            network(example_input)
    return recording


@dataclass
class _Running:
    """A call that has not returned yet."""

    flops_before: int
    inner_macs: int = 0
    """Multiply-accumulates of the calls inside this call."""


class _ParametersInUse(TorchFunctionMode):
    """Collects the parameters that operations take, so that weights used outside of their module are known."""

    def __init__(self, parameters: set[nn.Parameter]) -> None:
        super().__init__()
        self.parameters = parameters

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # Reading a parameter's shape or type returns no tensor and does not use it.
        if _first_tensor(result) is not None:
            self.parameters.update(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, nn.Parameter))
        return result


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Run attention as single matrix products, since the flop counter counts no fused kernel on a CPU."""
    has_fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(has_fast_path)


def _is_static(x: Tensor, frames: int | None) -> bool:
    if frames is None:
        return False
    sequence = x if x.shape[0] == frames else x.reshape(frames, -1)
    return bool((sequence == sequence[:1]).all())


def _first_tensor(tree: Any) -> Tensor | None:
    return next((leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)), None)


def _formula(module: nn.Module, arguments: Any, output: Any) -> int:
    """Multiply-accumulates of a call by the formulas of :func:`record`; 0 for modules without a formula."""
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
"""Flops of products that the flop counter does not count, from the operands' shapes."""
