r"""Norse's neurons, as their sources say and as running them shows.

``LIFBoxCell`` computes, with spikes :math:`z_t = [v_t > v_{th}]`,

.. math::
    v_{t+1} = v'_t + \frac{\Delta t}{\tau_{mem}} (v_{leak} - v'_t + x_{t+1}), \qquad
    v'_t = (1 - z_t) v_t + z_t v_{reset}

``LIFCell`` and ``LIF`` do the same with a synaptic current in the place of :math:`x_{t+1}`, which no spike changes: it
is filtered where the neuron stood.

.. math::
    i_{t+1} = \Bigl(1 - \frac{\Delta t}{\tau_{syn}}\Bigr) i_t + x_{t+1}, \qquad x_{t+1} \leftarrow i_t

``IAFCell`` has neither leak nor filter.
"""

from typing import Any

import norse.torch
import torch
from norse.torch.functional.iaf import IAFFeedForwardState
from norse.torch.functional.lif import LIFFeedForwardState
from norse.torch.functional.lif_box import LIFBoxFeedForwardState
from norse.torch.module import snn
from torch import Tensor, nn

from bitsearch.frameworks.neurons import NeuronDescription, NeuronInterface, placeholder
from bitsearch.plan import NeuronSettings

_RECURRENT = (norse.torch.LIFRecurrentCell, norse.torch.LIFRecurrent)


def is_spiking(module: nn.Module) -> bool:
    """True for every neuron of the library and its subclasses; those that integrate only are among them."""
    return isinstance(module, snn.SNNCell | snn.SNN | snn.SNNRecurrentCell | snn.SNNRecurrent)


def is_multi_step(module: nn.Module) -> bool:
    """True for those that take sequences, ``[T, N, ...]``."""
    return isinstance(module, snn.SNN | snn.SNNRecurrent | norse.torch.Lift)


def states(module: nn.Module) -> list[Tensor]:
    """None: they are passed from call to call."""
    return []


def reset(module: nn.Module) -> None:
    """Nothing: they are passed from call to call."""


def describe(module: nn.Module) -> NeuronDescription:
    """Of one of :data:`NEURONS`; of those with weights inside, that they stay."""
    neuron: Any = module
    if isinstance(neuron, _RECURRENT):
        return NeuronDescription(irreplaceable="its weights are its own; write it as LIFCell behind linear layers")
    p = neuron.p
    integrates = isinstance(neuron, norse.torch.IAFCell)
    charge, rest = torch.zeros(()) if integrates else neuron.dt * p.tau_mem_inv, p.v_reset if integrates else p.v_leak
    irreplaceable = _why_irreplaceable(neuron, charge, rest)
    if irreplaceable is not None:
        return NeuronDescription(irreplaceable=irreplaceable, forgets=True)
    return NeuronDescription(
        decay=float(1 - charge.max()),
        charge=1.0 if integrates else float(charge.max()),
        threshold=(p.v_th - rest).detach(),
        settings=NeuronSettings(reset="zero", threshold="full", strict=True, largest=1.0),
        rest=float(rest),
        forgets=True,
        interface=_INTERFACES[type(neuron)],
    )


def _why_irreplaceable(neuron: Any, charge: Tensor, rest: Tensor) -> str | None:
    p = neuron.p
    if charge.max() != charge.min():
        return "its neurons have different decays"
    if not 0 <= charge.max() <= 1:
        return f"its membrane is multiplied by {float(1 - charge.max()):g} a step; allowed: 0 to 1"
    if rest.numel() > 1 or not (p.v_reset == rest).all():
        return "it is reset to another membrane than it rests at"
    if not (p.v_th > rest).all():
        return "its threshold is not above its reset"
    if getattr(neuron, "record_states", False):
        return "its membrane is read"
    return None


class BoxInterface(NeuronInterface):
    """Takes and returns what ``LIFBoxCell`` and ``IAFCell`` do; the states mean nothing."""

    def __init__(self, neuron: Any, current: nn.Module) -> None:
        super().__init__(current)
        self.state = IAFFeedForwardState if isinstance(neuron, norse.torch.IAFCell) else LIFBoxFeedForwardState

    def forward(self, input_tensor: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """The current, and a state."""
        current = self.current(input_tensor)
        return current, self.state(v=placeholder(current))


class SynapseInterface(NeuronInterface):
    """Takes and returns what ``LIFCell`` and ``LIF`` do; of the states, the synaptic current is what it says."""

    def __init__(self, neuron: Any, current: nn.Module) -> None:
        super().__init__(current)
        self.dt, self.tau_syn_inv, self.takes_sequences = neuron.dt, neuron.p.tau_syn_inv, is_multi_step(neuron)

    def forward(self, input_tensor: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """The current, and a state: of a step, or of all of them."""
        steps = input_tensor if self.takes_sequences else input_tensor.unsqueeze(0)
        synaptic, before = torch.zeros_like(steps[0]) if state is None else state.i, []
        for step in steps:
            before.append(synaptic)
            synaptic = synaptic - self.dt * self.tau_syn_inv * synaptic + step
        current = self.current(torch.stack(before) if self.takes_sequences else before[0])
        return current, LIFFeedForwardState(v=placeholder(synaptic), i=synaptic)


_INTERFACES: dict[type[nn.Module], type[NeuronInterface]] = {
    norse.torch.LIFBoxCell: BoxInterface,
    norse.torch.IAFCell: BoxInterface,
    norse.torch.LIFCell: SynapseInterface,
    norse.torch.LIF: SynapseInterface,
}

NEURONS: tuple[type[nn.Module], ...] = (*_INTERFACES, *_RECURRENT)
"""Neurons that are known; subclasses may do anything."""
