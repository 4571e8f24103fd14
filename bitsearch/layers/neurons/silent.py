"""Layers that nothing above zero has reached: nothing has set their step sizes, and no training revives them."""

import warnings

from torch import nn

from bitsearch.layers.convert import quantized_layers


def silent_layers(network: nn.Module) -> list[str]:
    """Module paths of the quantized layers that have run, and have got nothing that makes a neuron fire."""
    return [name for name, layer in quantized_layers(network).items() if layer.is_silent]


def warn_of_silent(network: nn.Module) -> None:
    """Name them, in one line."""
    names = silent_layers(network)
    if names:
        layers = f"layer{'s' if len(names) > 1 else ''} {', '.join(names)}"
        warnings.warn(
            f"nothing above zero has come to {layers}, which no training changes; lower the thresholds in front, or "
            "start from other weights",
            stacklevel=2,
        )
