"""Forward passes that begin where something has changed: what ran before is not computed again.

Until the first call of a layer that has changed, a pass of a network in evaluation mode does what the pass before did,
whatever its program is. So the outputs of all quantized layers are kept once, and handed out until then.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.neurons.placed_neuron import PlacedNeuron
from bitsearch.layers.quantized import QuantizedLayer

Call = Callable[..., Any]


class RecordedPass:
    """The outputs of a network's quantized layers in one forward pass, call by call.

    Args:
        network: in evaluation mode, on inputs that stay the same.
    """

    def __init__(self, network: QuantizedNetwork) -> None:
        self.modules = [module for module in network.modules() if isinstance(module, QuantizedLayer | PlacedNeuron)]
        self.calls: list[tuple[nn.Module, Tensor | None]] = []
        """The modules called, in order, with their outputs; None of those that have to run, since they keep a state."""

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep what the forward pass inside computes."""
        self.calls.clear()

        def call(module: nn.Module, compute: Call, *args: Any, **kwargs: Any) -> Any:
            output = compute(*args, **kwargs)
            # A copy, since what comes next may work in place.
            self.calls.append((module, output.clone() if _is_stateless(module) else None))
            return output

        with self._replaced(call):
            yield

    @contextmanager
    def replaying(self, changed: Collection[QuantizedLayer]) -> Iterator[None]:
        """Compute the forward pass inside from the first call of a ``changed`` layer on."""
        first = next((index for index, (module, _) in enumerate(self.calls) if _reads(module, changed)), 0)
        place = 0

        def call(module: nn.Module, compute: Call, *args: Any, **kwargs: Any) -> Any:
            nonlocal place
            output = self.calls[place][1] if place < first else None
            assert place >= first or self.calls[place][0] is module
            place += 1
            return compute(*args, **kwargs) if output is None else output.clone()

        with self._replaced(call):
            yield

    @contextmanager
    def _replaced(self, call: Call) -> Iterator[None]:
        with ExitStack() as stack:
            for module in self.modules:
                module.__dict__["forward"] = partial(call, module, module.forward)
                stack.callback(module.__dict__.pop, "forward")
            yield


def _is_stateless(module: nn.Module) -> bool:
    return isinstance(module, QuantizedLayer) and not module.loop


def _reads(module: nn.Module, changed: Collection[QuantizedLayer]) -> bool:
    """Whether a module's output depends on the bits of a changed layer."""
    layers = (module.owner, *module.readers) if isinstance(module, PlacedNeuron) else (module,)
    return any(layer is other for layer in layers for other in changed)
