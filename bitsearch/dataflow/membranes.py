"""Whether a neuron's membrane goes on from where its last call left it, as a refined neuron's does.

States may be kept by a neuron or passed from call to call by the network, which may do anything with them in between;
so they are compared by their values.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bitsearch.frameworks.neurons import describe, is_multi_step, states


class MembraneWatch:
    """Meets every call of a neuron in one forward pass, before and after it."""

    def __init__(self) -> None:
        self.interrupted: dict[nn.Module, str] = {}
        """Of a neuron whose membrane does something else, what."""
        self._returned: dict[nn.Module, list[list[Tensor]]] = {}
        """By call, the last one first."""
        self._states_after: dict[nn.Module, list[Tensor]] = {}

    def before(self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A call begins."""
        passed, returned = state_arguments(args, kwargs), self._returned.get(neuron)
        if returned is None:
            rest = describe(neuron).rest
            if any(bool(((state != 0) & (state != rest)).any()) for state in passed):
                self.interrupted[neuron] = "its membrane starts elsewhere than at rest"
        elif passed:
            # Those behind the spikes; a neuron that takes its own spikes takes all that it returned.
            last, *earlier = (results[len(results) - len(passed) :] for results in returned)
            if any(_equal(passed, results) for results in earlier) and not _equal(passed, last):
                self.interrupted[neuron] = "it has several membranes in turn; give each place a neuron of its own"
            elif not _equal(passed, last):
                self.interrupted[neuron] = "its membrane is changed between its calls"
        elif describe(neuron).forgets or not _equal(states(neuron), self._states_after[neuron]):
            self.interrupted[neuron] = "its membrane is changed between its calls"

    def after(self, neuron: nn.Module, output: Any) -> None:
        """It ends."""
        if not is_multi_step(neuron):
            self._returned.setdefault(neuron, []).insert(0, [state.clone() for state in _tensors(output)])
            self._states_after[neuron] = [state.clone() for state in states(neuron)]


def state_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors among a call's arguments behind its input."""
    return _tensors((args, kwargs))[1:]


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(*pair) for pair in zip(first, second, strict=True))
