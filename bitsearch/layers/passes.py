"""A forward pass has a beginning and an end: what layers keep from call to call in between is of that pass alone.

Both are where the network's ``forward`` is, so that it does not matter whether the network is called or its ``forward``
is; and behind the end no membrane holds on to the graph of its batch.
"""

import functools
from typing import Any

from torch import nn

from bitsearch.frameworks.neurons import NeuronInterface, reset_states
from bitsearch.layers.neurons.placed_neuron import PlacedNeuron
from bitsearch.layers.quantized import QuantizedLayer


def bound_passes(network: nn.Module, *, reset: bool) -> None:
    """Let every forward pass of ``network``, in place, begin and end with layers and neurons that keep nothing.

    With ``reset``, the network's own neurons begin it at rest as well: a library's own function may not know those of a
    copy.
    """
    network.__class__ = _with_passes(type(network), reset)  # type: ignore[arg-type]  # a class that is made here


def _begin_pass(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, QuantizedLayer | PlacedNeuron | NeuronInterface):
            module.begin_pass()


@functools.cache
def _with_passes(kind: type[Any], reset: bool) -> type[Any]:
    """A subclass of the same name."""

    @functools.wraps(kind.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        _begin_pass(self)
        if reset:
            reset_states(self)
        try:
            return kind.forward(self, *args, **kwargs)
        finally:
            _begin_pass(self)

    def reduce(self: nn.Module, protocol: int) -> tuple[Any, ...]:
        # What is made here has no place to be imported from.
        return _restored, (kind, reset), self.__dict__

    content = {"forward": forward, "__reduce_ex__": reduce, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), content)


def _restored(kind: type[Any], reset: bool) -> nn.Module:
    network: nn.Module = object.__new__(_with_passes(kind, reset))  # type: ignore[arg-type]  # made here
    return network
