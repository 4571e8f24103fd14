"""SpikingJelly's layers, neurons and membrane states, as the other packages need them."""

from typing import Any

import torch
from spikingjelly.activation_based import base, layer, neuron
from torch import Tensor, nn

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


def is_neuron(module: nn.Module) -> bool:
    """True for exactly the types of :data:`NEURONS`; a subclass may do anything."""
    return type(module) in NEURONS


def _leak(module: nn.Module) -> float:
    """1/τ, the share of the membrane that is lost in a step; 0 without a leak."""
    if isinstance(module, neuron.ParametricLIFNode):
        return float(module.w.detach().sigmoid())
    tau: Any = getattr(module, "tau", None)
    return 0.0 if tau is None else 1 / float(tau)


def learns_decay(module: nn.Module) -> bool:
    """True for a neuron whose time constant is a parameter."""
    return isinstance(module, neuron.ParametricLIFNode)


def decay(module: nn.Module) -> float:
    """Membrane decay λ = 1 − 1/τ of one of :data:`NEURONS`."""
    return 1 - _leak(module)


def charge(module: nn.Module) -> float:
    """The share of its input that one of :data:`NEURONS` adds to its membrane: 1, or 1/τ if the input decays too."""
    return _leak(module) if getattr(module, "decay_input", False) else 1.0


def settings(module: nn.Module) -> NeuronSettings:
    """Reset and comparison of one of :data:`NEURONS`, for a membrane that is zero where the neuron's is at rest.

    They fire at the threshold, not only above it. Those of several levels, ILIF, send the nearest one.
    """
    if isinstance(module, neuron.ILIFNode):
        return NeuronSettings()
    return NeuronSettings(reset="subtract" if module.v_reset is None else "zero", threshold="full")


def why_irreplaceable(module: nn.Module) -> str | None:
    """Why no refined neuron means what one of :data:`NEURONS` does; None where one does."""
    reset: Any = module.v_reset
    if reset is None:
        return None
    if isinstance(module, neuron.SimpleIFNode | neuron.SimpleLIFNode) and reset != 0:
        return f"its membrane starts at 0 and is reset to {reset:g}"
    if not (torch.as_tensor(module.v_threshold) > reset).all():
        return f"its threshold is not above {reset:g}, to which it is reset"
    return None


def gain(module: nn.Module) -> Tensor:
    """The factor on a neuron's input, in units of its threshold θ above rest: 1/θ, or 1/(θ·τ) if the input decays too.

    A scalar, or in the shape of a threshold that is a tensor, one a channel for example.
    """
    threshold = torch.as_tensor(module.v_threshold, dtype=torch.float32).detach()
    return charge(module) / (threshold - float(module.v_reset or 0))  # type: ignore[arg-type]


def is_spiking(module: nn.Module) -> bool:
    """True for every neuron of the library, those that no refined neuron can stand for included."""
    return isinstance(module, neuron.BaseNode)


def reset_states(network: nn.Module) -> None:
    """Put every membrane back to its start, as between two independent batches."""
    for module in network.modules():
        if isinstance(module, base.MemoryModule):
            module.reset()
