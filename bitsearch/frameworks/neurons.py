"""Spiking neurons of a user's network, whatever library they come from, in the terms of the refined neuron.

Each library has an adapter, a file of its own. A library that the user has not imported is not imported here either:
without it there is no module of its classes.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

from bitsearch.plan import NeuronSettings

_ADAPTERS = {
    "spikingjelly": "bitsearch.frameworks.spikingjelly",
    "snntorch": "bitsearch.frameworks.snntorch",
    "norse": "bitsearch.frameworks.norse",
    "sinabs": "bitsearch.frameworks.sinabs",
    "bitsearch": "bitsearch.frameworks.declared",
}
"""By the library's name, the module that knows its neurons: their types, and functions named as those below; the last
knows those of the user's own classes."""


@dataclass(frozen=True)
class NeuronDescription:
    """What a neuron does in a time step, of which a refined neuron does the same with its current and its spikes.

    A spike is one; the membrane is counted in thresholds, from its rest.
    """

    decay: float = 1.0
    """Share of the membrane that is left after a step, λ."""
    charge: float = 1.0
    """Share of its input that it adds to its membrane."""
    threshold: Tensor = field(default_factory=lambda: torch.tensor(1.0))
    """Distance θ from rest; a scalar, or in a shape that goes with the neuron's input, as one a channel."""
    settings: NeuronSettings = field(default_factory=NeuronSettings)
    learns_decay: bool = False
    """True if the decay is a parameter."""
    rest: float = 0.0
    """Where the membrane starts and decays to."""
    forgets: bool = False
    """True if a call without a state starts anew, instead of from where the last call ended."""
    interface: Callable[[nn.Module, nn.Module], nn.Module] | None = None
    """Makes of (neuron, what stands for it, a module of one tensor) a module with the arguments, results and methods of
    the neuron's class; None where these are one tensor."""
    sequence_steps: Callable[[Sequence[int]], int] | None = None
    """Of a neuron whose calls take sequences with their time axis behind the batch: how many steps an input of a shape
    has. Its interface hands them on one by one."""
    reads_itself: bool = False
    """True if its own spikes come back to it through something else than a layer, so that they have to be sent where it
    stands."""
    separated: Callable[[nn.Module], nn.Module] | None = None
    """Makes of a neuron with weights of its own a module that does the same by layers and a neuron without any."""
    irreplaceable: str | None = None
    """Why no refined neuron does the same; None if one does."""

    @property
    def gain(self) -> Tensor:
        """The factor on the input that makes it a share of the threshold, κ/θ; shaped like :attr:`threshold`."""
        return self.charge / self.threshold.detach().to(torch.float32)


class Memory:
    """What a module sent in its last call; a copy of it is empty, since it belongs to a graph that cannot be copied."""

    def __init__(self) -> None:
        self.sent: Tensor | None = None

    def __deepcopy__(self, memo: object) -> "Memory":
        return Memory()


class NeuronInterface(nn.Module):
    """Stands where a neuron was whose calls take or return more than one tensor; a base class for the adapters.

    Args:
        current: makes of the neuron's input what the layers behind it read.
    """

    def __init__(self, current: nn.Module) -> None:
        super().__init__()
        self.current = current

    def begin_pass(self) -> None:
        """Forget what was kept from call to call: a forward pass begins."""


def placeholder(x: Tensor) -> Tensor:
    """A state shaped like ``x`` that nobody reads: the refined neuron keeps its membrane itself."""
    return x.new_zeros(()).expand_as(x)


def _adapters() -> Iterator[ModuleType]:
    for library, adapter in _ADAPTERS.items():
        if library in sys.modules:
            yield import_module(adapter)


def is_neuron(module: nn.Module) -> bool:
    """True for a neuron of a type that can be described: exactly that type, since a subclass may do anything."""
    return any(type(module) in adapter.NEURONS for adapter in _adapters())


def describe(neuron: nn.Module) -> NeuronDescription:
    """What is known of a neuron of such a type."""
    description: NeuronDescription = next(
        adapter.describe(neuron) for adapter in _adapters() if type(neuron) in adapter.NEURONS
    )
    return description


def is_spiking(module: nn.Module) -> bool:
    """True for every neuron of a known library, subclasses included, which may do anything."""
    return any(adapter.is_spiking(module) for adapter in _adapters())


def is_multi_step(module: nn.Module) -> bool:
    """True if the module takes sequences, ``[T, N, ...]``."""
    return any(adapter.is_multi_step(module) for adapter in _adapters())


def states(module: nn.Module) -> list[Tensor]:
    """The tensors in which a neuron keeps its membrane, and other states, between its calls."""
    return [state for adapter in _adapters() for state in adapter.states(module)]


def reset_states(network: nn.Module) -> None:
    """Put every membrane back to its start, as between two independent batches."""
    adapters = list(_adapters())
    for module in network.modules():
        for adapter in adapters:
            adapter.reset(module)
