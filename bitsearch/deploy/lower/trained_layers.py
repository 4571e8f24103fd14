"""What every format starts from: the layers of a network whose bits are fixed and whose weights are there."""

from torch import nn

from bitsearch.errors import InputError
from bitsearch.layers import QuantizedLayer, quantized_layers


def trained_layers(network: nn.Module) -> dict[str, QuantizedLayer]:
    """The quantized layers by module path; InputError if there are none, or one is not trained with fixed bits."""
    layers = quantized_layers(network)
    if not layers:
        raise InputError("the network has no quantized layer; rebuild it with bitsearch.apply")
    for name, layer in layers.items():
        if layer.is_learnable or not bool(layer.weight_step_bits):
            raise InputError(f"layer {name!r} is not trained with fixed bits; load the weights of its plan first")
    return layers
