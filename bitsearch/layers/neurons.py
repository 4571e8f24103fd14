"""Spiking neurons of the user's network, which give way to the refined neurons of the quantized layers behind them.

A quantized layer has a neuron at its own input, with the decay of those that it stands for, as the plan lists them
(:mod:`bitsearch.cost.streams`). The original neuron is replaced by its input scaling (1/threshold), plus a ReLU if
other modules read it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.errors import InputError
from bitsearch.frameworks.layers import QUANTIZABLE
from bitsearch.frameworks.spikingjelly import gain, is_neuron
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.plan import LayerPlan


class InputCurrent(nn.Module):
    """max(0, gain·x), or gain·x where unsigned quantized layers alone read it: they integrate what is negative too.

    ``gain`` is in units of the threshold, as :func:`bitsearch.frameworks.spikingjelly.gain` has it. It is a buffer,
    since a network may have learned it.
    """

    gain: Tensor

    def __init__(self, gain: Tensor | float, *, rectified: bool = True) -> None:
        super().__init__()
        self.register_buffer("gain", torch.as_tensor(gain, dtype=torch.float32))
        self.rectified = rectified
        self.is_identity = False
        """True if the gain is one everywhere."""
        self._note_gain()

    def _note_gain(self) -> None:
        self.is_identity = bool((self.gain == 1).all())

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._note_gain()

    def forward(self, x: Tensor) -> Tensor:
        """Shaped like ``x``."""
        current = x if self.is_identity else x * self.gain.to(x.dtype)
        return torch.relu(current) if self.rectified else current

    def extra_repr(self) -> str:
        """Both, for printing the network."""
        gain = f"{self.gain.item():g}" if self.gain.numel() == 1 else f"{tuple(self.gain.shape)}"
        return f"gain={gain}, rectified={self.rectified}"


def replace_neurons(network: nn.Module, plan: Mapping[str, LayerPlan]) -> None:
    """Replace, in place, every neuron that the layers of ``plan`` stand for."""
    recorded = all(layer.neurons is not None for layer in plan.values())
    if not recorded:
        replaced = [neuron for _, neuron in _neurons_in_front(network)]
    else:
        modules = dict(network.named_modules(remove_duplicate=False))
        paths = [path for layer in plan.values() for path in layer.neurons or ()]
        missing = next((path for path in paths if path not in modules or not is_neuron(modules[path])), None)
        if missing is not None:
            raise InputError(f"the plan names a neuron {missing!r} that the network does not have")
        replaced = [modules[path] for path in paths]
    # What is pooled must be what a neuron makes of it, nothing below zero; a signed layer would see what is.
    of_pooled = {path for layer in plan.values() if layer.pooled or layer.signed_input for path in layer.neurons or ()}
    pooled = [neuron for path, neuron in network.named_modules(remove_duplicate=False) if path in of_pooled]
    device = next(network.parameters()).device
    for path, neuron in list(network.named_modules(remove_duplicate=False)):
        if any(neuron is other for other in replaced):
            parent, _, child = path.rpartition(".")
            rectified = not recorded or any(neuron is other for other in pooled)
            current = InputCurrent(gain(neuron), rectified=rectified).to(device)
            setattr(network.get_submodule(parent), child, current)


def _neurons_in_front(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(path, neuron) of every known neuron that is registered in front of a quantized layer.

    So plans were made before what reads what was recorded. A neuron before a layer that keeps 32 bits, or behind the
    last layer, stays.
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
