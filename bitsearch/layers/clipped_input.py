"""Inputs that were taken to be never below zero, and are: counted where a layer clips them, and said."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.dataflow.products import first_tensor
from bitsearch.layers.quantized import QuantizedLayer


class ClippedInput:
    """A hook in front of an unsigned layer; it reads no number back, so that a device need not wait."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.values = 0
        self.negative: Tensor | None = None
        self.warned = False

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Count what is below zero."""
        x = first_tensor((args, kwargs))
        if x is None or torch.compiler.is_compiling():
            return
        count = torch.count_nonzero(x.detach() < 0)
        self.negative = count if self.negative is None else self.negative + count
        self.values += x.numel()

    @property
    def share(self) -> float:
        """Of the values that came so far, how many were below zero."""
        return 0.0 if self.negative is None else float(self.negative) / max(self.values, 1)


def count_clipped(network: nn.Module, names: Iterable[str]) -> None:
    """Count, from now on, what the unsigned ones of these quantized layers clip; each once."""
    for name in names:
        layer = network.get_submodule(name)
        if isinstance(layer, QuantizedLayer) and not layer.signed_input and not list(_counters(layer)):
            layer.register_forward_pre_hook(ClippedInput(name), with_kwargs=True)


def warn_of_clipped(network: nn.Module) -> None:
    """Say once, layer by layer, what share of an unsigned layer's input was below zero and taken for zero."""
    for module in network.modules():
        for counter in _counters(module):
            if not counter.warned and counter.share > 0:
                counter.warned = True
                warnings.warn(
                    f"layer {counter.name!r} takes its input for never below zero, and {100 * counter.share:.3g} % of "
                    "it is, which counts as zero; set signed_input = true",
                    stacklevel=2,
                )


def _counters(module: nn.Module) -> Iterable[ClippedInput]:
    return (hook for hook in module._forward_pre_hooks.values() if isinstance(hook, ClippedInput))
