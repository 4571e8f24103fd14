"""Spiking neurons of the user's network, which give way to the refined neurons of the quantized layers behind them.

A quantized layer has a neuron at its own input, with the decay of the one that stood before it. The original neuron is
replaced by its input scaling (1/threshold), plus a ReLU if other modules read it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bitsearch.cost.operations import QUANTIZABLE
from bitsearch.frameworks.spikingjelly import gain, is_neuron
from bitsearch.layers.quantized import QuantizedLayer


class InputCurrent(nn.Module):
    """max(0, gain·x), or gain·x where unsigned quantized layers alone read it: they integrate what is negative too.

    ``gain`` is in units of the threshold, as :func:`bitsearch.frameworks.spikingjelly.gain` has it.
    """

    def __init__(self, gain: float, *, rectified: bool = True) -> None:
        super().__init__()
        self.gain, self.rectified = gain, rectified

    def forward(self, x: Tensor) -> Tensor:
        """Shaped like ``x``."""
        current = x if self.gain == 1 else x * self.gain
        return torch.relu(current) if self.rectified else current

    def extra_repr(self) -> str:
        """Both, for printing the network."""
        return f"gain={self.gain:g}, rectified={self.rectified}"


def replaceable_neurons(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(path, neuron) of every known neuron in front of a quantized layer.

    In front is what is registered before: the next layer with weights is the one that reads it. A neuron before a layer
    that keeps 32 bits, or behind the last layer, where it reads out the network, stays.
    """
    waiting: list[tuple[str, nn.Module]] = []
    for path, module in network.named_modules():
        if is_neuron(module):
            waiting.append((path, module))
        elif isinstance(module, QuantizedLayer):
            yield from waiting
            waiting.clear()
        elif type(module) in QUANTIZABLE:
            waiting.clear()


def replace_neurons(network: nn.Module) -> None:
    """Replace, in place, every neuron of :func:`replaceable_neurons`."""
    replaced = dict(replaceable_neurons(network))
    for path, neuron in list(network.named_modules(remove_duplicate=False)):
        if any(neuron is found for found in replaced.values()):
            parent, _, child = path.rpartition(".")
            setattr(network.get_submodule(parent), child, InputCurrent(gain(neuron)))
