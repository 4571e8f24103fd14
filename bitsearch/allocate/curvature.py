r"""The curvature signal: what one bit more or less of one layer would do to the training loss.

Near a trained point first-order terms vanish and the change is second order,

.. math::
    \Delta L \approx \tfrac12 \sum F \cdot (Q(x) - x)^2

with F the diagonal of the true Fisher: squared gradients of the loss with labels sampled from the network's own output,
times the batch size; per weight for weights, per feature for spikes. The Fisher measured here is that of the quantized
network, at its quantized operands, smoothed over probes.
"""

import functools
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bitsearch.allocate.quantized_network import QuantizedNetwork
from bitsearch.layers.quantized import Observer, QuantizedLayer
from bitsearch.quant.renewal import renew_step
from bitsearch.quant.uniform import largest_level, to_levels

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
    fired: dict[tuple[int, ...], Tensor] = field(default_factory=dict)
    """Sum of the spikes so far, by the bits up to this time step; so with the two below."""
    spikes: dict[tuple[int, ...], Tensor] = field(default_factory=dict)
    membranes: dict[tuple[int, ...], Tensor] = field(default_factory=dict)
    """Of the next time step."""


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
        for outdated in (state.weight_losses, state.spike_losses, state.fired, state.spikes, state.membranes):
            outdated.clear()  # type: ignore[attr-defined]

    def weight_loss(self, name: str, weight_bits: int) -> float:
        """½·Σ F·(Q(W) − W)² at a number of weight bits, with its best step."""
        state, layer = self.states[name], self.network.layers[name]
        if weight_bits not in state.weight_losses:
            assert state.weight_fisher is not None, "probe before predicting"
            weight = layer.weight.detach()
            bits, largest = _grid(weight_bits, True, weight.device)
            step = state.steps.get(("weight", weight_bits))
            if step is None:
                step = renew_step(weight, bits, signed=True, per_channel=layer.granularity == "channel")
                state.steps["weight", weight_bits] = step
            error = to_levels(weight, step, bits, signed=True, largest=largest).codes.mul_(step).sub_(weight)
            loss = torch.dot(state.weight_fisher.flatten(), error.square_().flatten())
            state.weight_losses[weight_bits] = 0.5 * float(loss)
        return self.factors[name] * state.weight_losses[weight_bits]

    def spike_loss(self, name: str, spike_bits: tuple[int, ...]) -> float:
        """½·Σ F·(ō − x)² with one bit width a time step, averaged over the latest probe's samples."""
        state, layer = self.states[name], self.network.layers[name]
        if spike_bits not in state.spike_losses:
            assert state.feature_fisher is not None, "probe before predicting"
            inputs = _inputs(state)
            error = torch.sub(_fired(state, layer, spike_bits), inputs, alpha=len(spike_bits)).square_()
            loss = torch.mv(error, state.feature_fisher).sum()
            state.spike_losses[spike_bits] = 0.5 * float(loss) / (len(inputs) * len(spike_bits) ** 2)
        return self.factors[name] * state.spike_losses[spike_bits]


def _inputs(state: _LayerState) -> Tensor:
    assert state.inputs is not None, "probe before predicting"
    return state.inputs


@functools.cache
def _grid(bits: int, signed: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """(bits, q_max) as scalar tensors."""
    width = torch.tensor(float(bits), device=device)
    return width, largest_level(width, signed=signed)


def _fired(state: _LayerState, layer: QuantizedLayer, spike_bits: tuple[int, ...]) -> Tensor:
    """Sum of the spikes of the given time steps; prefixes are shared between allocations."""
    if spike_bits not in state.fired:
        membrane = _membrane(state, layer, spike_bits[:-1])
        bits, largest = _grid(spike_bits[-1], layer.signed_input, membrane.device)
        step = state.steps.get(("spike", spike_bits))
        if step is None:
            step = state.steps["spike", spike_bits] = renew_step(membrane, bits, signed=layer.signed_input)
        spikes = to_levels(membrane, step, bits, signed=layer.signed_input, largest=largest).codes.mul_(step)
        state.spikes[spike_bits] = spikes
        state.fired[spike_bits] = state.fired[spike_bits[:-1]] + spikes if len(spike_bits) > 1 else spikes
    return state.fired[spike_bits]


def _membrane(state: _LayerState, layer: QuantizedLayer, spike_bits: tuple[int, ...]) -> Tensor:
    """The membrane after the given time steps."""
    if not spike_bits:
        return _inputs(state)
    if spike_bits not in state.membranes:
        _fired(state, layer, spike_bits)
        residual = _membrane(state, layer, spike_bits[:-1]) - state.spikes[spike_bits]
        state.membranes[spike_bits] = torch.add(_inputs(state), residual, alpha=layer.decay)
    return state.membranes[spike_bits]


def _appender(calls: list[tuple[Tensor, Tensor, Tensor]]) -> Observer:
    def observe(x: Tensor, spikes: Tensor, weight: Tensor) -> None:
        calls.append((x.detach(), spikes, weight))

    return observe


def _smoothed(past: Tensor | None, new: Tensor) -> Tensor:
    return new if past is None else SMOOTHING * past + (1 - SMOOTHING) * new
