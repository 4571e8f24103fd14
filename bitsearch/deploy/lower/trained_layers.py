"""What every format starts from: the layers of a network whose bits are fixed and whose weights are there."""

import torch
from torch import nn

from bitsearch.errors import InputError
from bitsearch.layers import QuantizedLayer, quantized_layers
from bitsearch.layers.neurons.silent import warn_of_silent


def trained_layers(network: nn.Module) -> dict[str, QuantizedLayer]:
    """The quantized layers by module path; InputError if there are none, or one is not trained with fixed bits."""
    layers = quantized_layers(network)
    if not layers:
        raise InputError("the network has no quantized layer; rebuild it with bitsearch.apply")
    for name, layer in layers.items():
        if layer.is_learnable or not bool(layer.weight_step_bits):
            raise InputError(f"layer {name!r} is not trained with fixed bits; load the weights of its plan first")
        _size_open_steps(layer)
    warn_of_silent(network)
    return layers


@torch.no_grad()
def _size_open_steps(layer: QuantizedLayer) -> None:
    """Give time steps in which nothing fires, whatever their size, that of the largest of the others."""
    is_open = layer.spike_step_bits[: layer.active_steps] == 0
    if is_open.any() and not is_open.all():
        steps = layer.spike_log_step[: layer.active_steps]
        steps[is_open] = steps[~is_open].max()
