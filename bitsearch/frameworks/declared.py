"""Spiking neurons of the user's own classes, as they were declared."""

from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.declared_neuron import DeclaredNeuron
from bitsearch.errors import InputError
from bitsearch.frameworks.neurons import NeuronDescription, NeuronInterface, placeholder
from bitsearch.plan import NeuronSettings

_DECLARED: dict[type[nn.Module], DeclaredNeuron] = {}
NEURONS = _DECLARED.keys()
"""Classes that were declared in this process."""


def declare_neuron(kind: type[nn.Module], declaration: DeclaredNeuron | None = None) -> None:
    """Say that modules of exactly this class are spiking neurons, and how they work, for all that comes after.

    Args:
        kind: the class; declared again, it is what was said last.
        declaration: None takes the defaults: no leak, a threshold of one, soft reset.

    Raises:
        InputError: no class of modules.

    >>> class Integrate(torch.nn.Module):
    ...     def forward(self, x):
    ...         return (x >= 1).float()
    >>> bitsearch.declare_neuron(Integrate, bitsearch.DeclaredNeuron(decay=0.0, reset="zero"))
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise InputError(f"{kind!r} is no class of torch modules; declare the class of your neurons")
    _DECLARED[kind] = declaration or DeclaredNeuron()


def is_spiking(module: nn.Module) -> bool:
    """True for a neuron of a declared class."""
    return type(module) in _DECLARED


def is_multi_step(module: nn.Module) -> bool:
    """True if it was declared to take sequences."""
    return is_spiking(module) and _DECLARED[type(module)].sequences


def states(module: nn.Module) -> list[Tensor]:
    """The tensors among its declared states."""
    names = _DECLARED[type(module)].states if is_spiking(module) else ()
    return [state for name in names if isinstance(state := _attribute(module, name), Tensor)]


def reset(module: nn.Module) -> None:
    """Let its declared states be what they start as."""
    for name, start in _DECLARED[type(module)].states.items() if is_spiking(module) else ():
        state = _attribute(module, name)
        if start == "None":
            setattr(module, name, None)
        elif name in module._buffers and state is not None:
            setattr(module, name, torch.full_like(state, float(start)))
        else:
            setattr(module, name, float(start))


def describe(module: nn.Module) -> NeuronDescription:
    """As it was declared."""
    declared = _DECLARED[type(module)]
    decays = _numbers(module, declared.decay if declared.tau is None else declared.tau)
    learns_decay = decays.requires_grad
    decays, thresholds = decays.detach(), _numbers(module, declared.threshold).detach()
    if declared.tau is not None:
        decays = 1 - 1 / decays
    irreplaceable = None
    if decays.min() != decays.max():
        irreplaceable = "its neurons have different decays"
    elif not 0 <= decays.max() <= 1:
        irreplaceable = f"its membrane is multiplied by {float(decays.max()):g} a step; allowed: 0 to 1"
    elif not decays.max() and declared.reset == "delayed":
        irreplaceable = "its late reset is all that its membrane holds"
    elif not (thresholds > 0).all():
        irreplaceable = "its threshold is not above zero"
    return NeuronDescription(
        decay=float(decays.max()),
        charge=float(1 - decays.max()) if declared.input_decays else 1.0,
        threshold=thresholds,
        settings=NeuronSettings(reset=declared.reset, threshold="full", strict=declared.strict, largest=1.0),
        learns_decay=learns_decay,
        forgets=not declared.states,
        interface=_PairInterface if declared.returns == "spikes, membrane" else None,
        irreplaceable=irreplaceable,
    )


def _numbers(module: nn.Module, value: float | str) -> Tensor:
    return torch.as_tensor(_attribute(module, value) if isinstance(value, str) else value, dtype=torch.float32)


def _attribute(module: nn.Module, name: str) -> Any:
    try:
        return getattr(module, name)
    except AttributeError:
        raise InputError(
            f"neuron class {type(module).__qualname__} was declared with {name!r}, but its modules have no such "
            "attribute; correct [neurons], or set it in __init__"
        ) from None


class _PairInterface(NeuronInterface):
    """Takes and returns a membrane that means nothing."""

    def __init__(self, neuron: nn.Module, current: nn.Module) -> None:
        super().__init__(current)

    def forward(self, x: Tensor, *membrane: Any, **keywords: Any) -> tuple[Tensor, Tensor]:
        """The current, and a membrane."""
        current = self.current(x)
        return current, placeholder(current)
