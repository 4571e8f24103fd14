"""What a training tells about itself after every epoch, so that it can go on from there bit by bit."""

import random
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from bitsearch.cost import SpikeStatistics
from bitsearch.layers.network import QuantizedNetwork


class Stateful(Protocol):
    """A part of a training that has state, as torch's own parts do."""

    def state_dict(self) -> dict[str, Any]:
        """Nested dicts, lists and tuples of tensors, numbers, strings, booleans and None."""

    def load_state_dict(self, state: dict[str, Any], /) -> object:
        """Take the state that :meth:`state_dict` gave."""


class Checkpoints(Protocol):
    """Keeps the state of a training of one or several phases, each a call of :func:`bitsearch.train.loop.train`.

    A method that is interrupted is started again from its beginning. Its finished phases take no epoch: they come to
    the state they ended with. What lies between phases is done again, to the same result.
    """

    @property
    def seconds(self) -> float:
        """That this training has taken so far, those before an interruption included."""

    def restore(self, about: Mapping[str, Any], parts: Mapping[str, Stateful]) -> int:
        """Start the next phase: bring ``parts`` to where they were kept last; how many epochs are done, 0 if none.

        Args:
            about: what tells this phase from another one, as plain values; a state of another one is not taken.
            parts: all that the phase changes.
        """

    def keep(self, parts: Mapping[str, Stateful], epoch: int) -> None:
        """Keep what ``parts`` are at the end of an epoch."""


class NetworkState:
    """A network's tensors, and what a quantized one has counted, as a :class:`Stateful` part."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def state_dict(self) -> dict[str, Any]:
        """Both."""
        state: dict[str, Any] = {"tensors": self.network.state_dict()}
        if isinstance(self.network, QuantizedNetwork):
            activity = self.network.activity
            state |= {
                "activity": None
                if activity is None
                else {"firing": dict(activity.firing_rate), "synaptic": dict(activity.synaptic_rate)},
                "soft_accuracy": self.network.soft_accuracy,
                "changes": self.network.changes,
                "renewals": {name: layer.renewals for name, layer in self.network.layers.items()},
            }
        return state

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Take both."""
        self.network.load_state_dict(state["tensors"])
        if isinstance(self.network, QuantizedNetwork):
            activity = state["activity"]
            self.network.activity = (
                None if activity is None else SpikeStatistics(activity["firing"], activity["synaptic"])
            )
            self.network.soft_accuracy, self.network.changes = state["soft_accuracy"], state["changes"]
            for name, layer in self.network.layers.items():
                layer.renewals = state["renewals"][name]


class GeneratorState:
    """A torch generator as a :class:`Stateful` part."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def state_dict(self) -> dict[str, Any]:
        """Its state."""
        return {"state": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Set it."""
        self.generator.set_state(state["state"])


def seed_epoch(seed: int, epoch: int, process: int) -> None:
    """Seed the global generators: torch's, Python's and NumPy's.

    Dropout draws from them, and so may a user's own data set. What an epoch draws follows from its number, so that no
    state of theirs has to be kept, and processes that train together draw differently. Epoch 0 is what comes before.
    """
    (drawn,) = np.random.SeedSequence((seed, epoch, process)).generate_state(1).tolist()
    torch.manual_seed(drawn)
    random.seed(drawn)
    np.random.seed(drawn)  # noqa: NPY002  the generator that others draw from is the global one


def to_device(value: Any, device: torch.device) -> Any:
    """A tensor, or those of a dict, on a device; what was kept is on the CPU."""
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value
