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

import torch
from torch import Tensor, nn

from bitsearch.allocate.prediction import predict
from bitsearch.allocate.quantized_network import QuantizedNetwork
from bitsearch.layers.quantized import Observer, QuantizedLayer
from bitsearch.quant.frames import bin_frames, held, hold_frames
from bitsearch.quant.neuron import mean_spikes
from bitsearch.quant.processes import gathered, process, processes, total
from bitsearch.quant.renewal import renew_step
from bitsearch.quant.uniform import to_levels

SMOOTHING = 0.7
"""Weight of the past in the running Fisher."""
STEPS_KEPT = 8
"""Probes for which a candidate's best step size is kept: weights and activations move little in between."""
LOSS_SCALE = 2.0**10
"""Of a probe's loss, so that float16 can hold the gradients; a power of two changes no other digit."""
SAMPLE_ELEMENTS = 8192
"""Input elements per layer on which spike errors are measured."""


_Prefix = tuple[int, tuple[int, ...]]
"""The time steps that frames are binned into (0 without a time axis), and the spike bits of the first of them."""


@dataclass
class _Call:
    """What one call of a layer showed, over a batch's parts."""

    features: int = 0
    """Features of its input, sampled or not."""
    weight_grad: Tensor | None = None
    spike_grads: list[Tensor] = field(default_factory=list)
    """``[N, F, sampled features]``, of each part; F is 1 without a time axis."""
    inputs: list[Tensor] = field(default_factory=list)
    """``[N, F, sampled features]``, of each part."""


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
        batch_axis: the samples' axis in a batch's inputs.
    """

    def __init__(
        self, network: QuantizedNetwork, seed: int, depth_preference: float = 0.0, batch_axis: int = 0
    ) -> None:
        self.network, self.batch_axis = network, batch_axis
        self.generator = torch.Generator().manual_seed(seed)
        names = list(network.layers)
        self.factors = {
            name: float(torch.tensor(depth_preference * (index / max(len(names) - 1, 1) - 0.5)).exp())
            for index, name in enumerate(names)
        }
        self.states = {name: _LayerState() for name in network.searched_layers}

    def probe(self, *parts: Tensor) -> None:
        """A forward/backward pass on a batch with sampled labels; updates every layer's Fisher.

        ``parts`` are the batch's inputs (``[N, ...]`` or ``[T, N, ...]``), or parts of them that are passed through
        the network one by one. Of several processes each passes its share, and all get the whole batch's Fisher.
        """
        own = sum(part.shape[self.batch_axis] for part in parts)
        batch = int(total(torch.tensor(own, device=parts[0].device)))
        noise: Tensor | None = None
        calls: dict[tuple[str, int], _Call] = {}
        for part in parts:
            logits, found = self._observed(part)
            if noise is None:
                # An exponential race draws from a distribution. Every process draws the whole batch's, and takes the
                # rows of its samples.
                noise = torch.empty(batch, logits.shape[-1]).exponential_(generator=self.generator)
                noise = noise[process() :: processes()]
            race, noise = noise[: len(logits)], noise[len(logits) :]
            labels = (logits.detach().softmax(-1).cpu() / race).argmax(-1).to(logits.device)
            loss = nn.functional.cross_entropy(logits, labels, reduction="sum") * (LOSS_SCALE / batch)
            operands = [operand for _, _, spikes, weight in found for operand in (spikes, weight)]
            gradients = torch.autograd.grad(loss, operands)
            with torch.no_grad():
                for index, (key, x, _, _) in enumerate(found):
                    spike_grad, weight_grad = (
                        grad.float() / LOSS_SCALE for grad in gradients[2 * index : 2 * index + 2]
                    )
                    if self.network.layers[key[0]].frames is None:
                        x, spike_grad = x[None], spike_grad[None]
                    else:
                        spike_grad = _by_frame(spike_grad, x.shape[0])
                    self._add(calls.setdefault(key, _Call()), self.states[key[0]], x, spike_grad, weight_grad, batch)
        with torch.no_grad():
            for (name, _), call in calls.items():
                self._update(self.states[name], call, batch)

    def _observed(self, inputs: Tensor) -> tuple[Tensor, list[tuple[tuple[str, int], Tensor, Tensor, Tensor]]]:
        """Logits ``[N, classes]``, and of every call of a searched layer (which one, input, spikes, weight)."""
        layers = self.network.searched_layers
        seen: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in layers}
        with ExitStack() as stack:
            for name, layer in layers.items():
                layer.observer = _appender(seen[name])
                stack.callback(setattr, layer, "observer", None)
            logits = predict(self.network, inputs)
        return logits.float(), [((name, index), *call) for name in seen for index, call in enumerate(seen[name])]

    def _add(
        self, call: _Call, state: _LayerState, x: Tensor, spike_grad: Tensor, weight_grad: Tensor, batch: int
    ) -> None:
        """``x`` and the gradient of its spikes are ``[F, N, ...]``."""
        flat = x.detach().float().flatten(2).transpose(0, 1)
        if state.features is None:
            count = min(flat.shape[2], max(1, SAMPLE_ELEMENTS // batch))
            state.features = torch.randperm(flat.shape[2], generator=self.generator)[:count].to(x.device)
        call.features = flat.shape[2]
        call.inputs.append(flat[:, :, state.features])
        call.spike_grads.append(spike_grad.flatten(2).transpose(0, 1)[:, :, state.features])
        call.weight_grad = weight_grad if call.weight_grad is None else call.weight_grad + weight_grad

    def _update(self, state: _LayerState, call: _Call, batch: int) -> None:
        assert call.weight_grad is not None
        assert state.features is not None
        share = call.features / len(state.features)
        state.inputs = gathered(torch.cat(call.inputs)).transpose(0, 1)
        # Mean over the batch of products of per-sample gradients; the loss is a mean, so each carries 1/N.
        sampled = torch.cat(call.spike_grads)
        features = total(torch.einsum("nfk,ngk->fgk", sampled, sampled)) * batch * share
        state.weight_fisher = _smoothed(state.weight_fisher, total(call.weight_grad).square() * batch)
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


def _appender(calls: list[tuple[Tensor, Tensor, Tensor]]) -> Observer:
    def observe(x: Tensor, spikes: Tensor, weight: Tensor) -> None:
        calls.append((x, spikes, weight))

    return observe


def _smoothed(past: Tensor | None, new: Tensor) -> Tensor:
    return new if past is None else SMOOTHING * past + (1 - SMOOTHING) * new
