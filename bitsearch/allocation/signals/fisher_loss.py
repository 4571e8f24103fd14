r"""The Fisher's loss model: what one bit more or less of one layer would do to the training loss.

Near a trained point first-order terms vanish and the change is second order,

.. math::
    \Delta L \approx \tfrac12 \sum F \cdot (Q(x) - x)^2

with F the true Fisher (:mod:`bitsearch.allocation.signals.fisher`) of the quantized network.
"""

import functools
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bitsearch.allocation.signals.binning import BinningLoss
from bitsearch.allocation.signals.fisher import Fisher, LayerFisher
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.quant.firing import largest_level, residual, spike_levels
from bitsearch.quant.frames import bin_frames, hold_frames
from bitsearch.quant.matching import fitting_step, matching_step
from bitsearch.quant.renewal import renew_step
from bitsearch.quant.uniform import q_max, to_levels
from bitsearch.train.tasks import CLASSIFICATION, LearningTask

STEPS_KEPT = 8
"""Probes for which a candidate's best step size is kept: weights and activations move little in between."""

_Prefix = tuple[int, tuple[int, ...]]
"""The time steps that frames are binned into (0 without a time axis), and the spike bits of the first of them."""


@dataclass
class _LayerLosses(LayerFisher):
    """With what has been predicted from it."""

    weight_losses: dict[int, float] = field(default_factory=dict)
    spike_losses: dict[tuple[int, ...], float] = field(default_factory=dict)
    weight_steps: dict[int, Tensor] = field(default_factory=dict)
    """Best step sizes found, by bits."""
    spike_steps: dict[_Prefix, Tensor] = field(default_factory=dict)
    spikes: dict[_Prefix, Tensor] = field(default_factory=dict)
    """Of the last of these time steps; so with the two below."""
    fired: dict[_Prefix, Tensor] = field(default_factory=dict)
    """Sum of the spikes so far."""
    membranes: dict[_Prefix, Tensor] = field(default_factory=dict)
    """Of the next time step."""
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


class FisherLossModel(Fisher[_LayerLosses]):
    """Measures the Fisher by probes and predicts losses from it; a :class:`bitsearch.allocation.loss_model.LossModel`.

    Args:
        network: searched layers are measured.
        seed: as for :class:`bitsearch.allocation.signals.fisher.Fisher`, as is ``batch_axis``.
        depth_preference: sensitivities are multiplied by exp(this × depth), depth from −½ (first) to ½ (last layer).
        batch_axis: the samples' axis in a batch's inputs.
        weight_tolerance: predicted losses of weights are multiplied by this: what training does not win back of them.
        time_tolerance: losses of binning a recording's frames are multiplied by this, likewise.
        binning: measures these; without, they count nothing.
        task: whose loss is meant.
    """

    def __init__(
        self,
        network: QuantizedNetwork,
        seed: int,
        depth_preference: float = 0.0,
        batch_axis: int = 0,
        *,
        weight_tolerance: float = 1.0,
        time_tolerance: float = 1.0,
        binning: BinningLoss | None = None,
        task: LearningTask = CLASSIFICATION,
    ) -> None:
        super().__init__(network, seed, batch_axis, _LayerLosses, task)
        self.weight_tolerance, self.time_tolerance, self.binning = weight_tolerance, time_tolerance, binning
        names = list(network.layers)
        self.factors = {
            name: float(torch.tensor(depth_preference * (index / max(len(names) - 1, 1) - 0.5)).exp())
            for index, name in enumerate(names)
        }

    def use_hessian_traces(self, name: str, by_weights: float, by_input: float) -> None:
        """Let a layer's mean curvature, traces of the Hessian over their sizes, stand for its Fisher; probe before."""
        state = self.states[name]
        assert state.weight_fisher is not None, "probe before replacing"
        assert state.inputs is not None
        frames, _, features = state.inputs.shape
        state.weight_fisher = torch.full_like(state.weight_fisher, by_weights / state.weight_fisher.numel())
        # The sampled features stand for all.
        between = torch.eye(frames, device=state.inputs.device) * by_input / (frames * features)
        state.feature_fisher = between[:, :, None].expand(-1, -1, features)
        state.weight_losses.clear()
        state.spike_losses.clear()

    def weight_loss(self, name: str, weight_bits: int) -> float:
        """½·Σ F·(Q(W) − W)² at a number of weight bits, with its best step, times the weight tolerance."""
        state, layer = self.states[name], self.network.layers[name]
        if weight_bits not in state.weight_losses:
            assert state.weight_fisher is not None, "probe before predicting"
            weight = layer.output_first(layer.weight.detach())
            bits, largest = _grid(weight_bits, True, weight.device)
            step = state.weight_steps.get(weight_bits)
            if step is None:
                per_channel = layer.granularity == "channel"
                step = renew_step(weight, bits, signed=True, per_channel=per_channel, power_of_two=layer.power_of_two)
                state.weight_steps[weight_bits] = step
            error = to_levels(weight, step, bits, signed=True, largest=largest).codes.mul_(step).sub_(weight)
            fisher = layer.output_first(state.weight_fisher).to(error.dtype)
            loss = torch.dot(fisher.flatten(), error.square_().flatten())
            state.weight_losses[weight_bits] = 0.5 * float(loss)
        return self.weight_tolerance * self.factors[name] * state.weight_losses[weight_bits]

    def spike_loss(self, name: str, spike_bits: tuple[int, ...]) -> float:
        """The neuron's loss, and the time tolerance times that of binning frames.

        Weights learn to live with coarser frames, as they do with their own rounding.
        """
        binning = 0.0 if self.binning is None else self.time_tolerance * self.binning(name, len(spike_bits))
        return self.factors[name] * (self.neuron_loss(name, spike_bits) + binning)

    def neuron_loss(self, name: str, spike_bits: tuple[int, ...]) -> float:
        """½·Σ F·(ō − x)² with one bit width a time step, averaged over the latest probe's samples.

        A layer that stands for neurons of the network's is compared with what these send, o in the place of x. With a
        time axis, ō is what is held over every frame, and x the mean of its bin.
        """
        state, layer = self.states[name], self.network.layers[name]
        if spike_bits not in state.spike_losses:
            fisher, inputs, time_steps = state.feature_fisher, _inputs(state), len(spike_bits)
            assert fisher is not None
            if layer.frames is None:
                fired = _fired(state, layer, spike_bits)
                error = torch.sub(fired, _reference(state, layer, time_steps)[0], alpha=time_steps).square_()
                loss = torch.mv(error, fisher[0, 0]).sum() / time_steps**2
            else:
                spikes = [_spikes(state, layer, spike_bits[: t + 1], time_steps) for t in range(time_steps)]
                binned = bin_frames(_reference(state, layer, len(inputs)), time_steps)
                error = hold_frames(torch.stack(spikes) - binned, len(inputs))
                loss = torch.einsum("fnk,fgk,gnk->", error, fisher, error)
            state.spike_losses[spike_bits] = 0.5 * float(loss) / inputs.shape[1]
        return state.spike_losses[spike_bits]


def _inputs(state: _LayerLosses) -> Tensor:
    assert state.inputs is not None, "probe before predicting"
    return state.inputs


def _reference(state: _LayerLosses, layer: QuantizedLayer, time_steps: int) -> Tensor:
    """``[F, N, sampled features]``: what spikes stand for, the currents, or those of the network's own neuron.

    Of a static input F is 1, and the spikes are their mean over the given time steps.
    """
    inputs = _inputs(state)
    if not layer.replaces_neurons:
        return inputs
    if time_steps not in state.unrefined:
        currents = inputs if layer.frames is not None else inputs[0]
        spikes = layer.unrefined_spikes(currents, time_steps)
        state.unrefined[time_steps] = spikes if layer.frames is not None else spikes.mean(0, keepdim=True)
    return state.unrefined[time_steps]


@functools.cache
def _grid(bits: int, signed: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """(bits, q_max) as scalar tensors."""
    width = torch.tensor(float(bits), device=device)
    return width, q_max(width, signed=signed)


def _fired(state: _LayerLosses, layer: QuantizedLayer, spike_bits: tuple[int, ...]) -> Tensor:
    """Sum of the spikes of the given time steps, of a static input; prefixes are shared between allocations."""
    key = (0, spike_bits)
    if key not in state.fired:
        spikes = _spikes(state, layer, spike_bits, 0)
        state.fired[key] = _fired(state, layer, spike_bits[:-1]) + spikes if len(spike_bits) > 1 else spikes
    return state.fired[key]


def _spikes(state: _LayerLosses, layer: QuantizedLayer, spike_bits: tuple[int, ...], time_steps: int) -> Tensor:
    """``[N, sampled features]``: the spikes of the last of the given time steps, of ``time_steps`` frames in all."""
    key = (time_steps, spike_bits)
    if key not in state.spikes:
        membrane = _membrane(state, layer, spike_bits[:-1], time_steps)
        bits, largest = _grid(spike_bits[-1], layer.signed_input, membrane.device)
        step = state.spike_steps.get(key)
        if step is None:
            step = state.spike_steps[key] = _best_step(state, layer, spike_bits, time_steps, membrane, bits)
        if layer.neuron is not None:
            largest = largest_level(step, bits, signed=layer.signed_input, neuron=layer.neuron)
        levels = spike_levels(membrane, step, bits, signed=layer.signed_input, largest=largest, neuron=layer.neuron)
        state.spikes[key] = levels.codes.mul_(step)
    return state.spikes[key]


def _best_step(
    state: _LayerLosses,
    layer: QuantizedLayer,
    spike_bits: tuple[int, ...],
    time_steps: int,
    membrane: Tensor,
    bits: Tensor,
) -> Tensor:
    """Step size of the last of the given time steps."""
    if not layer.replaces_neurons:
        return fitting_step(
            membrane, bits, signed=layer.signed_input, neuron=layer.neuron, power_of_two=layer.power_of_two
        )
    if time_steps:
        spikes = bin_frames(_reference(state, layer, len(_inputs(state))), time_steps)[len(spike_bits) - 1]
    else:
        spikes = layer.unrefined_spikes(_inputs(state)[0], len(spike_bits))[-1]
    step, before = layer.unrefined
    return matching_step(
        membrane, spikes, step, bits, before=before, neuron=layer.neuron, power_of_two=layer.power_of_two
    )


def _membrane(state: _LayerLosses, layer: QuantizedLayer, spike_bits: tuple[int, ...], time_steps: int) -> Tensor:
    """The membrane after the given time steps."""
    inputs = _inputs(state)
    current = bin_frames(inputs, time_steps)[len(spike_bits)] if time_steps else inputs[0]
    if not spike_bits:
        return current
    key = (time_steps, spike_bits)
    if key not in state.membranes:
        before = _membrane(state, layer, spike_bits[:-1], time_steps)
        spikes = _spikes(state, layer, spike_bits, time_steps)
        state.membranes[key] = torch.add(
            current, residual(before, spikes, layer.neuron, layer.decay), alpha=layer.decay
        )
    return state.membranes[key]
