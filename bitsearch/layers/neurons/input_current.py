"""What is left of a spiking neuron that gave way: the scaling of its input."""

from typing import Any

import torch
from torch import Tensor, nn


class InputCurrent(nn.Module):
    """max(0, gain·x), or gain·x where unsigned quantized layers alone read it: they integrate what is negative too.

    ``gain`` is in units of the threshold (:attr:`bitsearch.frameworks.neurons.NeuronDescription.gain`). It is a buffer,
    since a network may have learned it. ``neuron_class`` is the name of the neuron's class, for messages.
    """

    gain: Tensor

    def __init__(self, gain: Tensor | float, *, rectified: bool = True, neuron_class: str = "a neuron") -> None:
        super().__init__()
        self.neuron_class = neuron_class
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

    def current(self, x: Tensor) -> Tensor:
        """gain·x."""
        return x if self.is_identity else x * self.gain.to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Shaped like ``x``."""
        current = self.current(x)
        return torch.relu(current) if self.rectified else current

    def extra_repr(self) -> str:
        """Both, for printing the network."""
        gain = f"{self.gain.item():g}" if self.gain.numel() == 1 else f"{tuple(self.gain.shape)}"
        return f"gain={gain}, rectified={self.rectified}"
