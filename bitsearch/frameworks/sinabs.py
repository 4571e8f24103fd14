r"""sinabs' neurons, as their sources say and as running them shows.

``IAF`` and ``LIF`` compute, with :math:`\alpha = e^{-1/\tau}` (1 for IAF) and :math:`\kappa = 1 - \alpha` where the
input is normed (else 1),

.. math::
    v_{t+1} = \alpha (v_t - \theta z_t) + \kappa x_{t+1}, \qquad z_t = \max(0, \lfloor v_t / \theta \rfloor)

A call takes a batch of sequences, ``[N, T, ...]``, or with ``Squeeze`` the same folded into one axis. Of a single step,
``num_timesteps=1``, that is one step of a loop, which the neuron remembers.
"""

from collections.abc import Sequence
from typing import Any

import torch
from sinabs.activation import MaxSpike, MembraneReset, MembraneSubtract, MultiSpike, SingleSpike
from sinabs.layers import IAF, LIF, IAFRecurrent, IAFSqueeze, LIFRecurrent, LIFSqueeze, StatefulLayer
from torch import Tensor, nn

from bitsearch.frameworks.neurons import NeuronDescription, NeuronInterface
from bitsearch.plan import NeuronSettings

NEURONS: tuple[type[nn.Module], ...] = (IAF, LIF, IAFRecurrent, IAFSqueeze, LIFRecurrent, LIFSqueeze)
"""Neurons that are known; subclasses may do anything."""


def is_spiking(module: nn.Module) -> bool:
    """True for every neuron of the library and its subclasses."""
    return isinstance(module, StatefulLayer) and module.does_spike


def is_multi_step(module: nn.Module) -> bool:
    """False: none takes its time axis first."""
    return False


def states(module: nn.Module) -> list[Tensor]:
    """Membrane and synaptic current."""
    return list(module.buffers(recurse=False)) if isinstance(module, StatefulLayer) else []


def reset(module: nn.Module) -> None:
    """Zero states."""
    if isinstance(module, StatefulLayer):
        module.reset_states()


def describe(module: nn.Module) -> NeuronDescription:
    """Of one of :data:`NEURONS`."""
    neuron: Any = module
    with torch.no_grad():
        alpha = torch.as_tensor(neuron.alpha_mem_calculated)
        irreplaceable = _why_irreplaceable(neuron, alpha)
        if irreplaceable is not None:
            return NeuronDescription(irreplaceable=irreplaceable)
        whole = getattr(neuron, "num_timesteps", None) != 1
        return NeuronDescription(
            decay=float(alpha.max()),
            charge=float(1 - alpha.max()) if neuron.norm_input else 1.0,
            threshold=neuron.spike_threshold,
            settings=NeuronSettings(
                reset="zero" if isinstance(neuron.reset_fn, MembraneReset) else "subtract",
                threshold="full",
                largest=_most_spikes(neuron.spike_fn),
            ),
            learns_decay=any(parameter.requires_grad for parameter in neuron.parameters(recurse=False)),
            interface=SequenceInterface if whole else None,
            sequence_steps=(lambda shape: _unfolded(neuron, shape)[1]) if whole else None,
        )


def _unfolded(neuron: Any, shape: Sequence[int]) -> tuple[int, int]:
    """(N, T) of an input."""
    if not isinstance(neuron, IAFSqueeze | LIFSqueeze):
        return shape[0], shape[1]
    # Either of the two may be left out, and is -1 then.
    steps = neuron.num_timesteps if neuron.num_timesteps > 0 else shape[0] // neuron.batch_size
    return shape[0] // steps, steps


class SequenceInterface(NeuronInterface):
    """Takes and returns the sequences that ``IAF`` and ``LIF`` do, ``[N, T, ...]``, folded or not, step by step."""

    def __init__(self, neuron: Any, current: nn.Module) -> None:
        super().__init__(current)
        self.is_folded = isinstance(neuron, IAFSqueeze | LIFSqueeze)
        self.batch_size = getattr(neuron, "batch_size", -1)
        self.num_timesteps = getattr(neuron, "num_timesteps", -1)

    def forward(self, input_data: Tensor) -> Tensor:
        """Shaped like ``input_data``."""
        sequence = input_data
        if self.is_folded:
            sequence = input_data.reshape(self.batch_size, self.num_timesteps, *input_data.shape[1:])
        sent = torch.stack([self.current(step) for step in sequence.unbind(1)], 1)
        return sent.flatten(0, 1) if self.is_folded else sent


def _why_irreplaceable(neuron: Any, alpha: Tensor) -> str | None:
    if isinstance(neuron, LIFRecurrent):
        return "it reads its own spikes over time at once"
    if neuron.alpha_syn_calculated is not None:
        return "its synaptic current is a second state, which no refined neuron has"
    if neuron.min_v_mem is not None:
        return "its membrane has a lower bound"
    if alpha.max() != alpha.min():
        return "its neurons have different decays"
    if not (neuron.spike_fn in (MultiSpike, SingleSpike) or isinstance(neuron.spike_fn, MaxSpike)):
        return "its spike_fn sends something else than spikes at multiples of the threshold"
    if not _is_known(neuron.reset_fn):
        return "its reset_fn takes something else from the membrane than its spikes, or all of it"
    if neuron.record_states:
        return "its membrane is read"
    if not (neuron.spike_threshold > 0).all():
        return "its threshold is not above zero"
    return None


def _most_spikes(spike_fn: Any) -> float | None:
    """In a step; None where there may be any number."""
    if spike_fn is SingleSpike:
        return 1.0
    most = spike_fn.max_num_spikes_per_bin if isinstance(spike_fn, MaxSpike) else None
    return None if most is None else float(most)


def _is_known(reset: Any) -> bool:
    if isinstance(reset, MembraneSubtract):
        return reset.subtract_value is None
    return isinstance(reset, MembraneReset) and reset.reset_value == 0
