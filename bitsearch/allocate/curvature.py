r"""The curvature signal: what one bit more or less of one layer would do to the training loss.

Near a trained point first-order terms vanish and the change is second order,

.. math::
    \Delta L \approx \tfrac12 \sum F \cdot (Q(x) - x)^2

with F the diagonal of the true Fisher: squared gradients of the loss with labels as the network's output distributes
them, times the batch size; per weight for weights, per feature for spikes. No labels are drawn, but slopes of the same
covariance (:func:`fisher_slopes`), which vary far less. The Fisher measured here is that of the quantized network, at
its quantized operands, smoothed over probes. Where a layer's input has a time axis, a feature's errors in
different frames add up or cancel, so that F is a matrix over the frames there (our reading).
"""

import functools
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bitsearch.allocate.checkpoints import moved
from bitsearch.allocate.prediction import predict
from bitsearch.allocate.quantized_network import QuantizedNetwork
from bitsearch.layers.quantized import Observer, QuantizedLayer
from bitsearch.quant.frames import bin_frames, held, hold_frames
from bitsearch.quant.processes import gathered, process, processes, total
from bitsearch.quant.renewal import renew_step
from bitsearch.quant.uniform import largest_level, to_levels

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
    spikes: dict["_Prefix", Tensor] = field(default_factory=dict)
    """Of the last of these time steps; so with the two below."""
    fired: dict["_Prefix", Tensor] = field(default_factory=dict)
    """Sum of the spikes so far."""
    membranes: dict["_Prefix", Tensor] = field(default_factory=dict)
    """Of the next time step."""


class Curvature:
    """Measures the Fisher by probes and predicts losses from it; a :class:`bitsearch.allocate.moves.LossModel`.

    Args:
        network: searched layers are measured.
        seed: of the slopes and the sampled features.
        depth_preference: sensitivities are multiplied by exp(this × depth), depth from −½ (first) to ½ (last layer).
        batch_axis: the samples' axis in a batch's inputs.
        weight_tolerance: predicted losses of weights are multiplied by this: what training does not win back of them.
        time_tolerance: share that counts of the loss predicted for binning a recording's frames, likewise.
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
    ) -> None:
        self.network, self.batch_axis = network, batch_axis
        self.weight_tolerance, self.time_tolerance = weight_tolerance, time_tolerance
        self.generator = torch.Generator().manual_seed(seed)
        names = list(network.layers)
        self.factors = {
            name: float(torch.tensor(depth_preference * (index / max(len(names) - 1, 1) - 0.5)).exp())
            for index, name in enumerate(names)
        }
        self.calls: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
        """Of every layer watched: input, spikes and weight of every call."""
        self.states = {name: _LayerState() for name in network.searched_layers}

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint; spikes and membranes follow from the rest."""
        derived: dict[str, Any] = {"spikes": {}, "fired": {}, "membranes": {}}
        kept = {name: vars(state) | derived for name, state in self.states.items()}
        return {"generator": self.generator.get_state(), "layers": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there, on the layers' own devices."""
        self.generator.set_state(state["generator"])
        for name, kept in state["layers"].items():
            device = self.network.layers[name].weight.device
            self.states[name] = _LayerState(**{field: moved(value, device) for field, value in kept.items()})

    def probe(self, *parts: Tensor) -> None:
        """A forward/backward pass on a batch with random slopes; updates every layer's Fisher.

        ``parts`` are the batch's inputs (``[N, ...]`` or ``[T, N, ...]``), or parts of them that are passed through
        the network one by one. Of several processes each passes its share, and all get the whole batch's Fisher.
        """
        own = sum(part.shape[self.batch_axis] for part in parts)
        batch = int(total(torch.tensor(own, device=parts[0].device)))
        noise: Tensor | None = None
        calls: dict[tuple[str, int], _Call] = {}
        for part in parts:
            self.watch()
            try:
                logits = predict(self.network, part)
            finally:
                self.unwatch()
            noise = self._noise(batch, logits.shape[-1]) if noise is None else noise
            self._backward(calls, logits, noise[: len(logits)], batch)
            noise = noise[len(logits) :]
        self._update(calls, batch)

    def watch(self) -> None:
        """Until :meth:`unwatch`, keep the operands of every searched layer for :meth:`measure`."""
        for name, layer in self.network.searched_layers.items():
            self.calls[name] = []
            layer.observer = _appender(self.calls[name])

    def unwatch(self) -> None:
        """Keep no more operands."""
        for layer in self.network.searched_layers.values():
            layer.observer = None

    def measure(self, logits: Tensor) -> None:
        """:meth:`probe` on a batch that has been passed through the network, watched, in one part.

        It costs a backward pass from its ``logits`` (``[N, classes]``), which can still be trained on.
        """
        calls: dict[tuple[str, int], _Call] = {}
        batch = int(total(torch.tensor(len(logits), device=logits.device)))
        self._backward(calls, logits, self._noise(batch, logits.shape[-1])[: len(logits)], batch, keep_graph=True)
        self._update(calls, batch)

    def _noise(self, batch: int, classes: int) -> Tensor:
        """Random signs for this process's samples: every process draws the whole batch's, and takes its own rows."""
        signs = torch.randint(0, 2, (batch, classes), generator=self.generator) * 2.0 - 1.0
        return signs[process() :: processes()]

    def _backward(
        self,
        calls: dict[tuple[str, int], _Call],
        logits: Tensor,
        noise: Tensor,
        batch: int,
        *,
        keep_graph: bool = False,
    ) -> None:
        """Add what the calls watched and a backward pass of random slopes show to ``calls``."""
        seen, self.calls = self.calls, {}
        logits = logits.float()
        slopes = fisher_slopes(logits.detach(), noise.to(logits.device))
        loss = (logits * slopes).sum() * (LOSS_SCALE / batch)
        found = [((name, index), *call) for name, own in seen.items() for index, call in enumerate(own)]
        operands = [operand for _, _, spikes, weight in found for operand in (spikes, weight)]
        gradients = torch.autograd.grad(loss, operands, retain_graph=keep_graph)
        with torch.no_grad():
            for index, (key, x, _, _) in enumerate(found):
                spike_grad, weight_grad = (grad.float() / LOSS_SCALE for grad in gradients[2 * index : 2 * index + 2])
                if self.network.layers[key[0]].frames is None:
                    x, spike_grad = x[None], spike_grad[None]
                else:
                    spike_grad = _by_frame(spike_grad, x.shape[0])
                self._add(calls.setdefault(key, _Call()), self.states[key[0]], x, spike_grad, weight_grad, batch)

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

    @torch.no_grad()
    def _update(self, calls: dict[tuple[str, int], _Call], batch: int) -> None:
        # Autocast would leave products too few digits.
        with torch.autocast(next(self.network.parameters()).device.type, enabled=False):
            for (name, _), call in calls.items():
                self._take_in(self.states[name], call, batch)

    @staticmethod
    def _take_in(state: _LayerState, call: _Call, batch: int) -> None:
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
        for outdated in (state.weight_losses, state.spike_losses, state.fired, state.spikes, state.membranes):
            outdated.clear()  # type: ignore[attr-defined]

    def replace_by_traces(self, name: str, by_weights: float, by_input: float) -> None:
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
            weight = layer.weight.detach()
            bits, largest = _grid(weight_bits, True, weight.device)
            step = state.weight_steps.get(weight_bits)
            if step is None:
                step = renew_step(weight, bits, signed=True, per_channel=layer.granularity == "channel")
                state.weight_steps[weight_bits] = step
            error = to_levels(weight, step, bits, signed=True, largest=largest).codes.mul_(step).sub_(weight)
            loss = torch.dot(state.weight_fisher.flatten(), error.square_().flatten())
            state.weight_losses[weight_bits] = 0.5 * float(loss)
        return self.weight_tolerance * self.factors[name] * state.weight_losses[weight_bits]

    def spike_loss(self, name: str, spike_bits: tuple[int, ...]) -> float:
        """½·Σ F·(ō − x)² with one bit width a time step, averaged over the latest probe's samples.

        With a time axis, what is held over every frame stands for ō. The error there is that of the neuron, which sees
        the means of the bins, and that of binning, of which only the time tolerance counts: weights learn to live with
        coarser frames, as they do with their own rounding.
        """
        state, layer = self.states[name], self.network.layers[name]
        if spike_bits not in state.spike_losses:
            fisher, inputs, time_steps = state.feature_fisher, _inputs(state), len(spike_bits)
            assert fisher is not None
            if layer.frames is None:
                fired = _fired(state, layer, spike_bits)
                error = torch.sub(fired, inputs[0], alpha=time_steps).square_()
                loss = torch.mv(error, fisher[0, 0]).sum() / time_steps**2
            else:
                spikes = [_spikes(state, layer, spike_bits[: t + 1], time_steps) for t in range(time_steps)]
                shown = hold_frames(torch.stack(spikes), len(inputs))
                binned = hold_frames(bin_frames(inputs, time_steps), len(inputs))
                in_all, of_neuron = (
                    torch.einsum("fnk,fgk,gnk->", error, fisher, error) for error in (shown - inputs, shown - binned)
                )
                loss = self.time_tolerance * in_all + (1 - self.time_tolerance) * of_neuron
            state.spike_losses[spike_bits] = 0.5 * float(loss) / inputs.shape[1]
        return self.factors[name] * state.spike_losses[spike_bits]


def fisher_slopes(logits: Tensor, signs: Tensor) -> Tensor:
    """Random slopes of the loss, ``[N, classes]``, with the covariance of those of labels sampled from the output.

    That is diag(p) − p·pᵀ. A sure network's sampled labels are nearly always the same ones, which show nothing, and now
    and then another that shows all; ``signs`` (±1, ``[N, classes]``) make every sample show its share.
    """
    p = logits.softmax(-1)
    shares = p.sqrt() * signs
    return shares - p * shares.sum(-1, keepdim=True)


def _inputs(state: _LayerState) -> Tensor:
    assert state.inputs is not None, "probe before predicting"
    return state.inputs


def _by_frame(grad: Tensor, frames: int) -> Tensor:
    """``[T, ...]`` to ``[F, ...]``: each time step's gradient, in equal parts to the frames that show it."""
    shown = held(frames, grad.shape[0], grad.device)
    return (grad / torch.bincount(shown).view(-1, *[1] * (grad.dim() - 1)))[shown]


@functools.cache
def _grid(bits: int, signed: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """(bits, q_max) as scalar tensors."""
    width = torch.tensor(float(bits), device=device)
    return width, largest_level(width, signed=signed)


def _fired(state: _LayerState, layer: QuantizedLayer, spike_bits: tuple[int, ...]) -> Tensor:
    """Sum of the spikes of the given time steps, of a static input; prefixes are shared between allocations."""
    key = (0, spike_bits)
    if key not in state.fired:
        spikes = _spikes(state, layer, spike_bits, 0)
        state.fired[key] = _fired(state, layer, spike_bits[:-1]) + spikes if len(spike_bits) > 1 else spikes
    return state.fired[key]


def _spikes(state: _LayerState, layer: QuantizedLayer, spike_bits: tuple[int, ...], time_steps: int) -> Tensor:
    """``[N, sampled features]``: the spikes of the last of the given time steps, of ``time_steps`` frames in all."""
    key = (time_steps, spike_bits)
    if key not in state.spikes:
        membrane = _membrane(state, layer, spike_bits[:-1], time_steps)
        bits, largest = _grid(spike_bits[-1], layer.signed_input, membrane.device)
        step = state.spike_steps.get(key)
        if step is None:
            step = state.spike_steps[key] = renew_step(membrane, bits, signed=layer.signed_input)
        levels = to_levels(membrane, step, bits, signed=layer.signed_input, largest=largest)
        state.spikes[key] = levels.codes.mul_(step)
    return state.spikes[key]


def _membrane(state: _LayerState, layer: QuantizedLayer, spike_bits: tuple[int, ...], time_steps: int) -> Tensor:
    """The membrane after the given time steps."""
    inputs = _inputs(state)
    current = bin_frames(inputs, time_steps)[len(spike_bits)] if time_steps else inputs[0]
    if not spike_bits:
        return current
    key = (time_steps, spike_bits)
    if key not in state.membranes:
        before = _membrane(state, layer, spike_bits[:-1], time_steps)
        residual = before - _spikes(state, layer, spike_bits, time_steps)
        state.membranes[key] = torch.add(current, residual, alpha=layer.decay)
    return state.membranes[key]


def _appender(calls: list[tuple[Tensor, Tensor, Tensor]]) -> Observer:
    def observe(x: Tensor, spikes: Tensor, weight: Tensor) -> None:
        calls.append((x.detach(), spikes, weight))

    return observe


def _smoothed(past: Tensor | None, new: Tensor) -> Tensor:
    return new if past is None else SMOOTHING * past + (1 - SMOOTHING) * new
