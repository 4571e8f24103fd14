"""What a layer's neuron would send at any spike bits, time steps and width of its membranes, for the inputs of a probe.

Allocations whose first time steps are alike share what these send.
"""

import functools
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bitsearch.allocation.signals.fisher import LayerFisher
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.quant.firing import largest_level, residual, spike_levels
from bitsearch.quant.frames import bin_frames
from bitsearch.quant.matching import fitting_step, matching_step
from bitsearch.quant.membrane_width import MembraneWidth, fixed_point_levels, next_membrane, saturated
from bitsearch.quant.uniform import q_max

STEPS_KEPT = 8
"""Probes for which a candidate's best step size is kept: weights and activations move little in between."""

_Prefix = tuple[int, tuple[int, ...], MembraneWidth | None]
"""The time steps that frames are binned into (0 without a time axis), the spike bits of the first of them, and the
width of the membranes where it is chosen."""


@dataclass
class LayerLosses(LayerFisher):
    """With what has been predicted from it."""

    weight_losses: dict[int, float] = field(default_factory=dict)
    spike_losses: dict[tuple[tuple[int, ...], int | None], float] = field(default_factory=dict)
    """By spike bits, and by the width of the membranes where it is chosen."""
    weight_steps: dict[int, Tensor] = field(default_factory=dict)
    """Best step sizes found, by bits."""
    spike_steps: dict[_Prefix, Tensor] = field(default_factory=dict)
    spikes: dict[_Prefix, Tensor] = field(default_factory=dict)
    """Of the last of these time steps; so with the two below."""
    fired: dict[_Prefix, Tensor] = field(default_factory=dict)
    """Sum of the spikes so far."""
    membranes: dict[_Prefix, Tensor] = field(default_factory=dict)
    """Of the next time step; those of a width in step sizes."""
    unrefined: dict[int, Tensor] = field(default_factory=dict)
    """Spikes of the network's own neuron, by the number of its time steps."""

    def state(self) -> dict[str, Any]:
        """Spikes and membranes follow from the rest."""
        return super().state() | {"spikes": {}, "fired": {}, "membranes": {}, "unrefined": {}}

    def probed(self) -> None:
        """Forget what followed from the probe before."""
        if self.probes % STEPS_KEPT == 0:
            self.weight_steps.clear()
            self.spike_steps.clear()
        self.weight_losses.clear()
        self.spike_losses.clear()
        self.spikes.clear()
        self.fired.clear()
        self.membranes.clear()
        self.unrefined.clear()


def inputs_of(state: LayerLosses) -> Tensor:
    """``[F, N, sampled features]``: the currents of the latest probe."""
    assert state.inputs is not None, "probe before predicting"
    return state.inputs


def reference(state: LayerLosses, layer: QuantizedLayer, time_steps: int) -> Tensor:
    """``[F, N, sampled features]``: what spikes stand for, the currents, or those of the network's own neuron.

    Of a static input F is 1, and the spikes are their mean over the given time steps.
    """
    inputs = inputs_of(state)
    if not layer.replaces_neurons:
        return inputs
    if time_steps not in state.unrefined:
        currents = inputs if layer.frames is not None else inputs[0]
        sent = layer.unrefined_spikes(currents, time_steps)
        state.unrefined[time_steps] = sent if layer.frames is not None else sent.mean(0, keepdim=True)
    return state.unrefined[time_steps]


@functools.cache
def grid(bits: int, signed: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """(bits, q_max) as scalar tensors."""
    width = torch.tensor(float(bits), device=device)
    return width, q_max(width, signed=signed)


def fired(
    state: LayerLosses, layer: QuantizedLayer, spike_bits: tuple[int, ...], width: MembraneWidth | None = None
) -> Tensor:
    """Sum of the spikes of the given time steps, of a static input; prefixes are shared between allocations."""
    key = (0, spike_bits, width)
    if key not in state.fired:
        sent = spikes(state, layer, spike_bits, 0, width)
        state.fired[key] = fired(state, layer, spike_bits[:-1], width) + sent if len(spike_bits) > 1 else sent
    return state.fired[key]


def spikes(
    state: LayerLosses,
    layer: QuantizedLayer,
    spike_bits: tuple[int, ...],
    time_steps: int,
    width: MembraneWidth | None = None,
) -> Tensor:
    """``[N, sampled features]``: the spikes of the last of the given time steps, of ``time_steps`` frames in all.

    Membranes are those of floats, with a step size a time step; or of a ``width``, with one for all.
    """
    key = (time_steps, spike_bits, width)
    if key not in state.spikes:
        if width is None:
            state.spikes[key] = _of_floats(state, layer, spike_bits, time_steps)
        else:
            state.spikes[key] = _of_width(state, layer, spike_bits, time_steps, width)
    return state.spikes[key]


def _of_floats(state: LayerLosses, layer: QuantizedLayer, spike_bits: tuple[int, ...], time_steps: int) -> Tensor:
    membrane = _membrane(state, layer, spike_bits[:-1], time_steps)
    bits, largest = grid(spike_bits[-1], layer.signed_input, membrane.device)
    step = _best_step(state, layer, spike_bits, time_steps, membrane)
    if layer.neuron is not None:
        largest = largest_level(step, bits, signed=layer.signed_input, neuron=layer.neuron)
    levels = spike_levels(membrane, step, bits, signed=layer.signed_input, largest=largest, neuron=layer.neuron)
    return levels.codes.mul_(step)


def _of_width(
    state: LayerLosses, layer: QuantizedLayer, spike_bits: tuple[int, ...], time_steps: int, width: MembraneWidth
) -> Tensor:
    """As :func:`bitsearch.quant.membrane_width.fixed_point_steps`, a step a call."""
    before = spike_bits[:-1]
    step = _best_step(state, layer, spike_bits[:1], time_steps, _current(state, 0, time_steps))
    bits, largest = grid(spike_bits[-1], layer.signed_input, step.device)
    if layer.neuron is not None:
        largest = largest_level(step, bits, signed=layer.signed_input, neuron=layer.neuron)
    remaining = None
    if before:
        codes = spikes(state, layer, before, time_steps, width) / step
        stored = saturated(state.membranes[time_steps, before, width], width)
        remaining = residual(stored, codes, layer.neuron, layer.decay)
    membrane = next_membrane(_current(state, len(before), time_steps) / step, remaining, layer.decay, width)
    state.membranes[time_steps, spike_bits, width] = membrane
    levels = fixed_point_levels(membrane, bits, width, signed=layer.signed_input, largest=largest, neuron=layer.neuron)
    return levels.codes * step


def _best_step(
    state: LayerLosses,
    layer: QuantizedLayer,
    spike_bits: tuple[int, ...],
    time_steps: int,
    membrane: Tensor,
) -> Tensor:
    """Step size of the last of the given time steps, by its membrane."""
    key = (time_steps, spike_bits, None)
    if key not in state.spike_steps:
        state.spike_steps[key] = _found_step(state, layer, spike_bits, time_steps, membrane)
    return state.spike_steps[key]


def _found_step(
    state: LayerLosses,
    layer: QuantizedLayer,
    spike_bits: tuple[int, ...],
    time_steps: int,
    membrane: Tensor,
) -> Tensor:
    bits, _ = grid(spike_bits[-1], layer.signed_input, membrane.device)
    if not layer.replaces_neurons:
        return fitting_step(
            membrane, bits, signed=layer.signed_input, neuron=layer.neuron, power_of_two=layer.power_of_two
        )
    if time_steps:
        sent = bin_frames(reference(state, layer, len(inputs_of(state))), time_steps)[len(spike_bits) - 1]
    else:
        sent = layer.unrefined_spikes(inputs_of(state)[0], len(spike_bits))[-1]
    step, before = layer.unrefined
    return matching_step(
        membrane, sent, step, bits, before=before, neuron=layer.neuron, power_of_two=layer.power_of_two
    )


def _current(state: LayerLosses, t: int, time_steps: int) -> Tensor:
    """What comes in at time step t."""
    inputs = inputs_of(state)
    return bin_frames(inputs, time_steps)[t] if time_steps else inputs[0]


def _membrane(state: LayerLosses, layer: QuantizedLayer, spike_bits: tuple[int, ...], time_steps: int) -> Tensor:
    """The membrane after the given time steps, of floats."""
    current = _current(state, len(spike_bits), time_steps)
    if not spike_bits:
        return current
    key = (time_steps, spike_bits, None)
    if key not in state.membranes:
        before = _membrane(state, layer, spike_bits[:-1], time_steps)
        sent = spikes(state, layer, spike_bits, time_steps)
        state.membranes[key] = torch.add(current, residual(before, sent, layer.neuron, layer.decay), alpha=layer.decay)
    return state.membranes[key]
