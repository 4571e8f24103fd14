"""Layer geometry, traced on the real network by one forward pass."""

import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.errors import InputError
from bitsearch.models.eval_mode import eval_mode

QUANTIZABLE: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""The layers that can be given bits. Subclasses compute something else, so they are left as they are."""


@dataclass(frozen=True)
class LayerGeometry:
    """What one layer costs before any bits are chosen: counts for one input and one time step."""

    name: str
    """Module path in the network."""
    macs: int
    """Multiply-accumulates."""
    weights: int
    """Weight elements, without biases."""
    inputs: int
    """Input features, each of which is a spike."""
    outputs: int
    """Output channels."""
    signed_input: bool
    """True if the example's values at this layer went below zero."""
    first: bool
    """True for the layer that ran first."""


def trace(network: nn.Module, example_input: Tensor, names: Iterable[str] | None = None) -> list[LayerGeometry]:
    """Run ``example_input`` (``[N, ...]``) through ``network`` once and measure every quantizable layer.

    Args:
        network: any module; its mode, weights and buffers are left as they were.
        example_input: a batch as the network gets in use.
        names: module paths to measure; None takes every convolution and linear layer.

    Returns:
        The layers in the order of their first call. One called several times counts every call. Without ``names``, a
        warning lists the layers with weights that cannot be given bits.

    Raises:
        InputError: the network cannot run the example, or holds no such layer.
    """
    wanted = None if names is None else set(names)
    modules = {
        name: module
        for name, module in network.named_modules()
        if type(module) in QUANTIZABLE and (wanted is None or name in wanted)
    }
    found: dict[str, LayerGeometry] = {}

    def measure(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            x = args[0] if args else kwargs["input"]
            geometry = _measure(name, module, x.detach(), output.detach(), first=not found)
            earlier = found.get(name)
            found[name] = geometry if earlier is None else _joined(earlier, geometry)

        return hook

    with ExitStack() as hooks, torch.no_grad(), eval_mode(network):
        for name, module in modules.items():
            hooks.callback(module.register_forward_hook(measure(name), with_kwargs=True).remove)
        try:
            network(example_input)
        except (RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"the network cannot run an input of shape {tuple(example_input.shape)}: {error}"
            ) from error
    left = unquantized(network)
    if names is None and left:
        warnings.warn(f"left in full precision and not counted: {', '.join(left)}", stacklevel=2)
    if not found:
        raise InputError("the network has no convolution or linear layer that could be quantized")
    return list(found.values())


def unquantized(network: nn.Module) -> list[str]:
    """Module paths of the layers with a weight matrix or kernel that cannot be given bits, and so are not counted."""
    return [
        name
        for name, module in network.named_modules()
        if type(module) not in QUANTIZABLE
        and any(parameter.dim() >= 2 for parameter in module.parameters(recurse=False))
    ]


def _measure(name: str, module: nn.Module, x: Tensor, output: Tensor, *, first: bool) -> LayerGeometry:
    batch = x.shape[0]
    weight = module.weight
    assert isinstance(weight, Tensor)
    if isinstance(module, nn.Linear):
        channels = module.out_features
    else:
        assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        channels = module.out_channels
    return LayerGeometry(
        name=name,
        # Every output element is one dot product with one output channel's weights; groups are in the weight's shape.
        macs=output.numel() // batch * (weight.numel() // channels),
        weights=weight.numel(),
        inputs=x.numel() // batch,
        outputs=channels,
        signed_input=bool((x < 0).any()),
        first=first,
    )


def _joined(one: LayerGeometry, other: LayerGeometry) -> LayerGeometry:
    return LayerGeometry(
        name=one.name,
        macs=one.macs + other.macs,
        weights=one.weights,
        inputs=one.inputs + other.inputs,
        outputs=one.outputs,
        signed_input=one.signed_input or other.signed_input,
        first=one.first,
    )
