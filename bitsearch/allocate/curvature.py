r"""The curvature signal: what one bit more or less of one layer would do to the training loss.

Near a trained point first-order terms vanish and the change is second order,

.. math::
    \Delta L \approx \tfrac12 \sum F \cdot (Q(x) - x)^2

with F the diagonal of the true Fisher: squared gradients of the loss with labels sampled from the network's own output,
times the batch size; per weight for weights, per feature for spikes. The Fisher measured here is that of the quantized
network, at its quantized operands, smoothed over probes. Where a layer's input has a time axis, a feature's errors in
different frames add up or cancel, so that F is a matrix over the frames there (our reading).
"""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.allocate.prediction import predict
from bitsearch.allocate.quantized_network import QuantizedNetwork
from bitsearch.layers.quantized import Observer, QuantizedLayer
from bitsearch.quant.frames import bin_frames, held, hold_frames
from bitsearch.quant.neuron import mean_spikes
from bitsearch.quant.renewal import renew_step
from bitsearch.quant.uniform import to_levels

SMOOTHING = 0.7
"""Weight of the past in the running Fisher."""
STEPS_KEPT = 8
"""Probes for which a candidate's best step size is kept: weights and activations move little in between."""
SAMPLE_ELEMENTS = 8192
"""Input elements per layer on which spike errors are measured."""


_Prefix = tuple[int, tuple[int, ...]]
"""The time steps that frames are binned into (0 without a time axis), and the spike bits of the first of them."""


@dataclass
class _LayerState:
    weight_fisher: Tensor | None = None
    feature_fisher: Tensor | None = None
    """``[F, F, sampled features]``; F is 1 without a time axis."""
    features: Tensor | None = None
    """Indices of the sampled input features."""
    inputs: Tensor | None = None
    """``[F, N, sampled features]`` of the latest probe."""
    weight_losses: dict[int, float] = field(default_factory=dict)
    spike_losses: dict[tuple[int, ...], float] = field(default_factory=dict)
    weight_steps: dict[int, Tensor] = field(default_factory=dict)
    """Best step sizes found, by bits."""
    spike_steps: dict["_Prefix", Tensor] = field(default_factory=dict)
    probes: int = 0
    prefixes: dict["_Prefix", tuple[tuple[Tensor, ...], Tensor | float]] = field(default_factory=dict)
    """The spikes so far, and what is left on the membrane."""


class Curvature:
    """Measures the Fisher by probes and predicts losses from it; a :class:`bitsearch.allocate.projection.LossModel`.

    Args:
        network: searched layers are measured.
        seed: of the sampled labels and features.
        depth_preference: sensitivities are multiplied by exp(this × depth), depth from −½ (first) to ½ (last layer).
    """

    def __init__(self, network: QuantizedNetwork, seed: int, depth_preference: float = 0.0) -> None:
        self.network = network
        self.generator = torch.Generator().manual_seed(seed)
        names = list(network.layers)
        self.factors = {
            name: float(torch.tensor(depth_preference * (index / max(len(names) - 1, 1) - 0.5)).exp())
            for index, name in enumerate(names)
        }
        self.states = {name: _LayerState() for name in network.searched_layers}

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; prefixes follow from the rest."""
        kept = {name: vars(state) | {"prefixes": {}} for name, state in self.states.items()}
        return {"generator": self.generator.get_state(), "layers": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there, on the layers' own devices."""
        self.generator.set_state(state["generator"])
        for name, kept in state["layers"].items():
            device = self.network.layers[name].weight.device
            self.states[name] = _LayerState(**{field: _moved(value, device) for field, value in kept.items()})

    def probe(self, inputs: Tensor) -> None:
        """A forward/backward pass on a batch of ``inputs`` with sampled labels; updates every layer's Fisher."""
        layers = self.network.searched_layers
        seen: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in layers}
        with ExitStack() as stack:
            for name, layer in layers.items():
                layer.observer = _appender(seen[name])
                stack.callback(setattr, layer, "observer", None)
            logits = predict(self.network, inputs)
        probabilities = logits.detach().softmax(-1).cpu()
        labels = torch.multinomial(probabilities, 1, generator=self.generator).squeeze(1).to(logits.device)
        loss = nn.functional.cross_entropy(logits, labels)
        calls = [(name, call) for name, found in seen.items() for call in found]
        operands = [operand for _, (_, spikes, weight) in calls for operand in (spikes, weight)]
        gradients = torch.autograd.grad(loss, operands)
        with torch.no_grad():
            for index, (name, (x, _, _)) in enumerate(calls):
                if layers[name].frames is None:
                    x, spike_grad = x[None], gradients[2 * index][None]
                else:
                    spike_grad = _by_frame(gradients[2 * index], x.shape[0])
                self._update(self.states[name], x.detach(), spike_grad, gradients[2 * index + 1])

    def _update(self, state: _LayerState, x: Tensor, spike_grad: Tensor, weight_grad: Tensor) -> None:
        """``x`` and the gradient of its spikes are ``[F, N, ...]``."""
        batch = x.shape[1]
        flat = x.flatten(2)
        if state.features is None:
            count = min(flat.shape[2], max(1, SAMPLE_ELEMENTS // batch))
            state.features = torch.randperm(flat.shape[2], generator=self.generator)[:count].to(x.device)
        share = flat.shape[2] / len(state.features)
        state.inputs = flat[:, :, state.features]
        # Mean over the batch of products of per-sample gradients; the loss is a mean, so each carries 1/N.
        sampled = spike_grad.flatten(2)[:, :, state.features]
        features = torch.einsum("fnk,gnk->fgk", sampled, sampled) * batch * share
        state.weight_fisher = _smoothed(state.weight_fisher, weight_grad.square() * batch)
        state.feature_fisher = _smoothed(state.feature_fisher, features)
        state.probes += 1
        if state.probes % STEPS_KEPT == 0:
            state.weight_steps.clear()
            state.spike_steps.clear()
        state.weight_losses.clear()
        state.spike_losses.clear()
        state.prefixes.clear()

    @torch.no_grad()
    def weight_loss(self, name: str, weight_bits: int) -> float:
        """½·Σ F·(Q(W) − W)² at a number of weight bits, with its best step."""
        state, layer = self.states[name], self.network.layers[name]
        if weight_bits not in state.weight_losses:
            assert state.weight_fisher is not None, "probe before predicting"
            weight = layer.weight.detach()
            bits = torch.tensor(float(weight_bits), device=weight.device)
            step = state.weight_steps.get(weight_bits)
            if step is None:
                step = renew_step(weight, bits, signed=True, per_channel=layer.granularity == "channel")
                state.weight_steps[weight_bits] = step
            error = to_levels(weight, step, bits, signed=True).codes * step - weight
            state.weight_losses[weight_bits] = float(0.5 * (state.weight_fisher * error.square()).sum())
        return self.factors[name] * state.weight_losses[weight_bits]

    @torch.no_grad()
    def spike_loss(self, name: str, spike_bits: tuple[int, ...]) -> float:
        """½·Σ F·(ō − x)² with one bit width a time step, averaged over the latest probe's samples.

        With a time axis, what is held over every frame stands for ō.
        """
        state, layer = self.states[name], self.network.layers[name]
        if spike_bits not in state.spike_losses:
            fisher, inputs = state.feature_fisher, state.inputs
            assert fisher is not None, "probe before predicting"
            assert inputs is not None
            spikes = torch.stack(self._run(state, layer, spike_bits, len(spike_bits))[0])
            seen = spikes.mean(0, keepdim=True) if layer.frames is None else hold_frames(spikes, len(inputs))
            error = seen - inputs
            squares = torch.einsum("fnk,fgk,gnk->", error, fisher, error)
            state.spike_losses[spike_bits] = float(0.5 * squares / inputs.shape[1])
        return self.factors[name] * state.spike_losses[spike_bits]

    def _run(
        self, state: _LayerState, layer: QuantizedLayer, spike_bits: tuple[int, ...], time_steps: int
    ) -> tuple[tuple[Tensor, ...], Tensor | float]:
        """(spikes, what is left on the membrane) of the first time steps; prefixes are shared between allocations."""
        if not spike_bits:
            return (), 0.0
        framed = layer.frames is not None
        key = (time_steps if framed else 0, spike_bits)
        if key not in state.prefixes:
            spikes, residual = self._run(state, layer, spike_bits[:-1], time_steps)
            inputs = state.inputs
            assert inputs is not None
            membrane = residual + (bin_frames(inputs, time_steps)[len(spikes)] if framed else inputs[0])
            bits = torch.tensor([float(spike_bits[-1])], device=membrane.device)
            step = state.spike_steps.get(key)
            if step is None:
                step = renew_step(membrane, bits[0], signed=layer.signed_input).view(1)
                state.spike_steps[key] = step
            fired = mean_spikes(membrane, step, bits, time_steps=1, decay=layer.decay, signed=layer.signed_input)
            state.prefixes[key] = ((*spikes, fired), layer.decay * (membrane - fired))
        return state.prefixes[key]


def _by_frame(grad: Tensor, frames: int) -> Tensor:
    """``[T, ...]`` to ``[F, ...]``: each time step's gradient, in equal parts to the frames that show it."""
    shown = held(frames, grad.shape[0], grad.device)
    return (grad / torch.bincount(shown).view(-1, *[1] * (grad.dim() - 1)))[shown]


def _moved(value: Any, device: torch.device) -> Any:
    """A tensor, or those of a dict, on a device."""
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value


def _appender(calls: list[tuple[Tensor, Tensor, Tensor]]) -> Observer:
    def observe(x: Tensor, spikes: Tensor, weight: Tensor) -> None:
        calls.append((x, spikes, weight))

    return observe


def _smoothed(past: Tensor | None, new: Tensor) -> Tensor:
    return new if past is None else SMOOTHING * past + (1 - SMOOTHING) * new
