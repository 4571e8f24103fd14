r"""The curvature signal: what one bit more or less of one layer would do to the training loss.

Near a trained point first-order terms vanish and the change is second order,

.. math::
    \Delta L \approx \tfrac12 \sum F \cdot (Q(x) - x)^2

with F the diagonal of the true Fisher: squared gradients of the loss with labels sampled from the network's own output,
times the batch size; per weight for weights, per feature for spikes. The Fisher measured here is that of the quantized
network, at its quantized operands, smoothed over probes.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bitsearch.allocate.quantized_network import QuantizedNetwork
from bitsearch.layers.quantized import Observer, QuantizedLayer
from bitsearch.quant.neuron import mean_spikes
from bitsearch.quant.renewal import renew_step
from bitsearch.quant.uniform import to_levels

SMOOTHING = 0.7
"""Weight of the past in the running Fisher."""
STEPS_KEPT = 8
"""Probes for which a candidate's best step size is kept: weights and activations move little in between."""
SAMPLE_ELEMENTS = 8192
"""Input elements per layer on which spike errors are measured."""


@dataclass
class _LayerState:
    weight_fisher: Tensor | None = None
    feature_fisher: Tensor | None = None
    """``[features]``, of the sampled features."""
    features: Tensor | None = None
    """Indices of the sampled input features."""
    inputs: Tensor | None = None
    """``[N, sampled features]`` of the latest probe."""
    weight_losses: dict[int, float] = field(default_factory=dict)
    spike_losses: dict[tuple[int, ...], float] = field(default_factory=dict)
    steps: dict[tuple[str, int | tuple[int, ...]], Tensor] = field(default_factory=dict)
    """Best step sizes found, by ``weight`` and bits or by ``spike`` and the bits up to this time step."""
    probes: int = 0
    prefixes: dict[tuple[int, ...], tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Per prefix of spike bits: the sum of the spikes so far and the next membrane."""


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
        self.calls: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
        """Of every layer watched: input, spikes and weight of every call."""
        self.states = {name: _LayerState() for name in network.searched_layers}

    def probe(self, inputs: Tensor) -> None:
        """A forward/backward pass on ``inputs`` (``[N, ...]``) with sampled labels; updates every layer's Fisher."""
        self.watch()
        try:
            logits = self.network(inputs)
        finally:
            self.unwatch()
        self.measure(logits)

    def watch(self) -> None:
        """Until :meth:`unwatch`, keep the operands of every searched layer for :meth:`measure`."""
        for name, layer in self.network.searched_layers.items():
            self.calls[name] = []
            layer.observer = _appender(self.calls[name])

    def unwatch(self) -> None:
        """Keep no more operands."""
        for layer in self.network.searched_layers.values():
            layer.observer = None

    def measure(self, logits: Tensor, *, keep_graph: bool = False) -> None:
        """A backward pass with sampled labels from the ``logits`` (``[N, classes]``) of the forward pass watched.

        Updates every layer's Fisher. With ``keep_graph``, the forward pass can still be trained on.
        """
        seen, self.calls = self.calls, {}
        probabilities = logits.detach().softmax(-1).cpu()
        labels = torch.multinomial(probabilities, 1, generator=self.generator).squeeze(1).to(logits.device)
        loss = nn.functional.cross_entropy(logits, labels)
        calls = [(name, call) for name, found in seen.items() for call in found]
        operands = [operand for _, (_, spikes, weight) in calls for operand in (spikes, weight)]
        gradients = torch.autograd.grad(loss, operands, retain_graph=keep_graph)
        with torch.no_grad():
            for index, (name, (x, _, _)) in enumerate(calls):
                self._update(self.states[name], x, gradients[2 * index], gradients[2 * index + 1])

    def _update(self, state: _LayerState, x: Tensor, spike_grad: Tensor, weight_grad: Tensor) -> None:
        batch = x.shape[0]
        flat = x.flatten(1)
        if state.features is None:
            count = min(flat.shape[1], max(1, SAMPLE_ELEMENTS // batch))
            state.features = torch.randperm(flat.shape[1], generator=self.generator)[:count].to(x.device)
        share = flat.shape[1] / len(state.features)
        state.inputs = flat[:, state.features]
        # Mean over the batch of squared per-sample gradients; the loss is a mean, so each carries 1/N.
        features = spike_grad.flatten(1)[:, state.features].square().sum(0) * batch * share
        state.weight_fisher = _smoothed(state.weight_fisher, weight_grad.square() * batch)
        state.feature_fisher = _smoothed(state.feature_fisher, features)
        state.probes += 1
        if state.probes % STEPS_KEPT == 0:
            state.steps.clear()
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
            step = state.steps.get(("weight", weight_bits))
            if step is None:
                step = renew_step(weight, bits, signed=True, per_channel=layer.granularity == "channel")
                state.steps["weight", weight_bits] = step
            error = to_levels(weight, step, bits, signed=True).codes * step - weight
            state.weight_losses[weight_bits] = float(0.5 * (state.weight_fisher * error.square()).sum())
        return self.factors[name] * state.weight_losses[weight_bits]

    @torch.no_grad()
    def spike_loss(self, name: str, spike_bits: tuple[int, ...]) -> float:
        """½·Σ F·(ō − x)² with one bit width a time step, averaged over the latest probe's samples."""
        state, layer = self.states[name], self.network.layers[name]
        if spike_bits not in state.spike_losses:
            assert state.feature_fisher is not None, "probe before predicting"
            total, _ = self._run(state, layer, spike_bits)
            error = total / len(spike_bits) - self._inputs(state)
            state.spike_losses[spike_bits] = float(0.5 * (state.feature_fisher * error.square().mean(0)).sum())
        return self.factors[name] * state.spike_losses[spike_bits]

    @staticmethod
    def _inputs(state: _LayerState) -> Tensor:
        assert state.inputs is not None, "probe before predicting"
        return state.inputs

    def _run(self, state: _LayerState, layer: QuantizedLayer, spike_bits: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """(sum of spikes, next membrane) after the given steps; prefixes are shared between allocations."""
        inputs = self._inputs(state)
        if not spike_bits:
            return torch.zeros_like(inputs), inputs
        if spike_bits not in state.prefixes:
            total, membrane = self._run(state, layer, spike_bits[:-1])
            bits = torch.tensor([float(spike_bits[-1])], device=membrane.device)
            step = state.steps.get(("spike", spike_bits))
            if step is None:
                step = renew_step(membrane, bits[0], signed=layer.signed_input).view(1)
                state.steps["spike", spike_bits] = step
            spikes = mean_spikes(membrane, step, bits, time_steps=1, decay=layer.decay, signed=layer.signed_input)
            state.prefixes[spike_bits] = (total + spikes, layer.decay * (membrane - spikes) + inputs)
        return state.prefixes[spike_bits]


def _appender(calls: list[tuple[Tensor, Tensor, Tensor]]) -> Observer:
    def observe(x: Tensor, spikes: Tensor, weight: Tensor) -> None:
        calls.append((x.detach(), spikes, weight))

    return observe


def _smoothed(past: Tensor | None, new: Tensor) -> Tensor:
    return new if past is None else SMOOTHING * past + (1 - SMOOTHING) * new
