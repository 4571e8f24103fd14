"""SpikingJelly's layers, neurons and membrane states, as the other packages need them."""

from typing import Any

import torch
from spikingjelly.activation_based import base, layer, neuron
from torch import Tensor, nn

from bitsearch.frameworks.neurons import NeuronDescription
from bitsearch.plan import NeuronSettings

LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    layer.Conv1d: nn.Conv1d,
    layer.Conv2d: nn.Conv2d,
    layer.Conv3d: nn.Conv3d,
    layer.ConvTranspose1d: nn.ConvTranspose1d,
    layer.ConvTranspose2d: nn.ConvTranspose2d,
    layer.ConvTranspose3d: nn.ConvTranspose3d,
    layer.Linear: nn.Linear,
}
"""SpikingJelly's layers with weights, and the torch layer that each one extends by a time axis."""

DROPOUTS: tuple[type[nn.Module], ...] = (layer.Dropout, layer.Dropout2d)
"""SpikingJelly's dropouts: their memory is a mask, which evaluation does not use."""

NEURONS: tuple[type[nn.Module], ...] = (
    neuron.IFNode,
    neuron.SimpleIFNode,
    neuron.LIFNode,
    neuron.SimpleLIFNode,
    neuron.ParametricLIFNode,
    neuron.ILIFNode,
)
"""Neurons with one membrane, a linear leak and a reset by their spikes, which a refined neuron can replace."""


def is_multi_step(module: nn.Module) -> bool:
    """True if it takes sequences, ``[T, N, ...]``."""
    containers = (layer.SeqToANNContainer, layer.MultiStepContainer)
    return isinstance(module, containers) or getattr(module, "step_mode", "s") == "m"


def describe(module: nn.Module) -> NeuronDescription:
    """Of one of :data:`NEURONS`."""
    rest = float(module.v_reset or 0)  # type: ignore[arg-type]  # a number, or none
    return NeuronDescription(
        decay=1 - _leak(module),
        charge=_leak(module) if getattr(module, "decay_input", False) else 1.0,
        threshold=torch.as_tensor(module.v_threshold, dtype=torch.float32).detach() - rest,
        settings=_settings(module),
        learns_decay=isinstance(module, neuron.ParametricLIFNode),
        rest=rest,
        irreplaceable=_why_irreplaceable(module),
    )


def _leak(module: nn.Module) -> float:
    """1/τ, the share of the membrane that is lost in a step; 0 without a leak."""
    if isinstance(module, neuron.ParametricLIFNode):
        return float(module.w.detach().sigmoid())
    tau: Any = getattr(module, "tau", None)
    return 0.0 if tau is None else 1 / float(tau)


def _settings(module: nn.Module) -> NeuronSettings:
    """Reset and comparison of one of :data:`NEURONS`, for a membrane that is zero where the neuron's is at rest.

    They fire at the threshold, not only above it, and once a step. Those of several levels, ILIF, send the nearest one.
    """
    if isinstance(module, neuron.ILIFNode):
        return NeuronSettings(largest=float(module.surrogate_function.max_spike_count))
    return NeuronSettings(reset="subtract" if module.v_reset is None else "zero", threshold="full", largest=1.0)


def _why_irreplaceable(module: nn.Module) -> str | None:
    """Why no refined neuron means what one of :data:`NEURONS` does; None where one does."""
    reset: Any = module.v_reset
    if reset is None:
        return None
    if isinstance(module, neuron.SimpleIFNode | neuron.SimpleLIFNode) and reset != 0:
        return f"its membrane starts at 0 and is reset to {reset:g}"
    if not (torch.as_tensor(module.v_threshold) > reset).all():
        return f"its threshold is not above {reset:g}, to which it is reset"
    return None


def is_spiking(module: nn.Module) -> bool:
    """True for every neuron of the library, those that no refined neuron can stand for included."""
    return isinstance(module, neuron.BaseNode)


def states(module: nn.Module) -> list[Tensor]:
    """The membrane of one of the library's neurons, once it holds one a value."""
    membrane = getattr(module, "v", None) if is_spiking(module) else None
    return [membrane] if isinstance(membrane, Tensor) else []


def reset(module: nn.Module) -> None:
    """Put what a module keeps from step to step back to its start."""
    if isinstance(module, base.MemoryModule):
        module.reset()
