r"""Norse's neurons, as their sources say and as running them shows.

``LIFBoxCell`` computes, with spikes :math:`z_t = [v_t > v_{th}]`,

.. math::
    v_{t+1} = v'_t + \frac{\Delta t}{\tau_{mem}} (v_{leak} - v'_t + x_{t+1}), \qquad
    v'_t = (1 - z_t) v_t + z_t v_{reset}

``LIFCell`` and ``LIF`` do the same with a synaptic current in the place of :math:`x_{t+1}`, which no spike changes: it
is filtered where the neuron stood. In Norse 1.0 the membrane gets it a step late, since 1.1 at once:

.. math::
    i_{t+1} = \Bigl(1 - \frac{\Delta t}{\tau_{syn}}\Bigr) i_t + x_{t+1}, \qquad x_{t+1} \leftarrow i_t
    \qquad \text{or} \qquad
    j_{t+1} = i_t + x_{t+1}, \qquad i_{t+1} = \Bigl(1 - \frac{\Delta t}{\tau_{syn}}\Bigr) j_{t+1}, \qquad
    x_{t+1} \leftarrow j_{t+1}

Which of them is there is found by running one.

``IAFCell`` has neither leak nor filter. ``LIFRecurrentCell`` and ``LIFRecurrent`` have weights of their own, for what
comes in and for their own spikes, and a filter without delay:

.. math::
    j_t = i_t + W_{in} x_t + W_{rec} z_{t-1}, \qquad i_{t+1} = \Bigl(1 - \frac{\Delta t}{\tau_{syn}}\Bigr) j_t

With :math:`j_t` in the place of its input, what is left of them is ``LIFBoxCell``.
"""

from functools import cache
from typing import Any

import norse.torch
import torch
from norse.torch.functional.iaf import IAFFeedForwardState
from norse.torch.functional.lif import LIFFeedForwardState, LIFParameters, LIFState, lif_feed_forward_step
from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters
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
    if isinstance(module, RecurrentLayers):
        return module.takes_sequences
    return isinstance(module, snn.SNN | snn.SNNRecurrent | norse.torch.Lift)


def states(module: nn.Module) -> list[Tensor]:
    """None: they are passed from call to call."""
    return []


def reset(module: nn.Module) -> None:
    """Nothing: they are passed from call to call."""


def describe(module: nn.Module) -> NeuronDescription:
    """Of one of :data:`NEURONS`; of those with weights inside, how they come apart."""
    neuron: Any = module
    if isinstance(neuron, _RECURRENT):
        read = getattr(neuron, "record_states", False)
        why = "its membrane is read" if read else "its weights are its own, which something else than the network reads"
        return NeuronDescription(irreplaceable=why, separated=None if read else RecurrentLayers)
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
        rest=float(rest.detach()),
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


@cache
def arrives_late() -> bool:
    """Whether what comes in reaches the membrane of a ``LIFCell`` a step later, as in Norse 1.0, and not at once."""
    rest = LIFFeedForwardState(v=torch.zeros(1), i=torch.zeros(1))
    with torch.no_grad():
        _, state = lif_feed_forward_step(torch.full((1,), 0.5), rest, LIFParameters())
    return not bool(state.v.any())


class SynapseInterface(NeuronInterface):
    """Takes and returns what ``LIFCell`` and ``LIF`` do; of the states, the synaptic current is what it says."""

    def __init__(self, neuron: Any, current: nn.Module) -> None:
        super().__init__(current)
        self.dt, self.tau_syn_inv, self.takes_sequences = neuron.dt, neuron.p.tau_syn_inv, is_multi_step(neuron)
        self.late = arrives_late()

    def forward(self, input_tensor: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """The current, and a state: of a step, or of all of them."""
        steps = input_tensor if self.takes_sequences else input_tensor.unsqueeze(0)
        synaptic, arrived = torch.zeros_like(steps[0]) if state is None else state.i, []
        for step in steps:
            jump = synaptic if self.late else synaptic + step
            arrived.append(jump)
            synaptic = jump - self.dt * self.tau_syn_inv * jump
            synaptic = synaptic + step if self.late else synaptic
        current = self.current(torch.stack(arrived) if self.takes_sequences else arrived[0])
        return current, LIFFeedForwardState(v=placeholder(synaptic), i=synaptic)


class RecurrentLayers(nn.Module):
    """``LIFRecurrentCell`` or ``LIFRecurrent`` with its weights in layers, and its neuron step by step."""

    def __init__(self, neuron: Any) -> None:
        super().__init__()
        p = neuron.p
        self.takes_sequences = is_multi_step(neuron)
        self.autapses, self.dt, self.tau_syn_inv = neuron.autapses, neuron.dt, p.tau_syn_inv
        self.input, self.recurrent = _linear(neuron.input_weights), _linear(neuron.recurrent_weights)
        box = LIFBoxParameters(p.tau_mem_inv, p.v_leak, p.v_th, p.v_reset, p.method, p.alpha)
        self.neuron = norse.torch.LIFBoxCell(box, dt=neuron.dt)

    def forward(self, input_tensor: Tensor, state: LIFState | None = None) -> tuple[Tensor, LIFState | None]:
        """Spikes ``[..., hidden]`` of a step, or of all of them, and the state behind them."""
        self._bar_autapses()
        if not self.takes_sequences:
            return self._step(input_tensor, state)
        sent = []
        for step in input_tensor:
            spikes, state = self._step(step, state)
            sent.append(spikes)
        return torch.stack(sent), state

    def _step(self, x: Tensor, state: LIFState | None) -> tuple[Tensor, LIFState]:
        entered = self.input(x)
        before, synaptic = (torch.zeros_like(entered),) * 2 if state is None else (state.z, state.i)
        jump = synaptic + entered + self.recurrent(before)
        membrane = None if state is None else LIFBoxFeedForwardState(v=state.v)
        spikes, membrane = self.neuron(jump, membrane)
        return spikes, LIFState(z=spikes, v=membrane.v, i=jump - self.dt * self.tau_syn_inv * jump)

    def _bar_autapses(self) -> None:
        """Without them, a neuron's weight on its own spikes stays zero: a copy of a parameter has lost its hook."""
        weight = self.recurrent.weight
        if not self.autapses and weight.requires_grad and not weight._backward_hooks:
            weight.register_hook(lambda gradient: gradient.clone().fill_diagonal_(0.0))


def _linear(weight: Tensor) -> nn.Linear:
    """A layer with this weight, one that is not learned if that is no parameter."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight.detach(), requires_grad=False)
    return layer


_INTERFACES: dict[type[nn.Module], type[NeuronInterface]] = {
    norse.torch.LIFBoxCell: BoxInterface,
    norse.torch.IAFCell: BoxInterface,
    norse.torch.LIFCell: SynapseInterface,
    norse.torch.LIF: SynapseInterface,
}

NEURONS: tuple[type[nn.Module], ...] = (*_INTERFACES, *_RECURRENT)
"""Neurons that are known; subclasses may do anything."""
