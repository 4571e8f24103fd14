r"""The true Fisher of a quantized network: how much the loss feels an error of every weight and of every spike.

Its diagonal: squared gradients of the loss with labels as the network's output distributes them, times the batch size;
per weight for weights, per feature for spikes. No labels are drawn, but slopes of the same covariance
(:meth:`bitsearch.train.tasks.losses.Loss.slopes`), which vary far less. It is measured at the network's quantized
operands, and smoothed over probes. Where a layer's input has a time axis, a feature's errors in different frames add up
or cancel, so that the Fisher is a matrix over the frames there (our reading).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from bitsearch.allocation.signals.moving_average import moving_average
from bitsearch.distributed import all_gather, all_reduce_sum, rank, world_size
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.quantized import Observer
from bitsearch.network_inputs import Inputs, axis_length, tensors_of
from bitsearch.quant.frames import step_indices
from bitsearch.train.predict import predict
from bitsearch.train.state import to_device
from bitsearch.train.tasks import CLASSIFICATION, LearningTask

SMOOTHING = 0.7
"""Weight of the past in the running Fisher."""
LOSS_SCALE = 2.0**10
"""Of a probe's loss, so that float16 can hold the gradients; a power of two changes no other digit."""
SAMPLE_ELEMENTS = 8192
"""Input elements per layer on which spike errors are measured."""


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
class LayerFisher:
    """What is known of one layer."""

    weight_fisher: Tensor | None = None
    """In the weight's shape."""
    feature_fisher: Tensor | None = None
    """``[F, F, sampled features]``; F is 1 without a time axis."""
    features: Tensor | None = None
    """Indices of the sampled input features."""
    inputs: Tensor | None = None
    """``[F, N, sampled features]`` of the latest probe."""
    probes: int = 0

    def state(self) -> dict[str, Any]:
        """For a checkpoint: what does not follow from the rest."""
        return dict(vars(self))

    def probed(self) -> None:
        """After every probe."""


_Layer = TypeVar("_Layer", bound=LayerFisher)


class Fisher(Generic[_Layer]):
    """Measures the Fisher of a network's searched layers by probes.

    Args:
        network: searched layers are measured.
        seed: of the slopes and the sampled features.
        batch_axis: the samples' axis in a batch's inputs.
        layer: makes what is kept of one layer.
        task: whose loss is meant.
    """

    def __init__(
        self,
        network: QuantizedNetwork,
        seed: int,
        batch_axis: int,
        layer: type[_Layer],
        task: LearningTask = CLASSIFICATION,
    ) -> None:
        self.network, self.batch_axis, self.task = network, batch_axis, task
        self.generator = torch.Generator().manual_seed(seed)
        self.calls: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
        """Of every layer watched: input, spikes and weight of every call."""
        self.states = {name: layer() for name in network.searched_layers}

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        layers = {name: state.state() for name, state in self.states.items()}
        return {"generator": self.generator.get_state(), "layers": layers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there, on the layers' own devices."""
        self.generator.set_state(state["generator"])
        for name, fields in state["layers"].items():
            device = self.network.layers[name].weight.device
            self.states[name] = type(self.states[name])(
                **{key: to_device(value, device) for key, value in fields.items()}
            )

    def probe(self, *parts: Inputs, targets: Sequence[Tensor] = ()) -> None:
        """A forward/backward pass on a batch with random slopes; updates every layer's Fisher.

        ``parts`` are the batch's inputs (``[N, ...]`` or ``[T, N, ...]``), or parts of them that are passed through the
        network one by one, and ``targets`` theirs, where they are known. Of several processes each passes its share,
        and all get the whole batch's Fisher.
        """
        share = sum(axis_length(part, self.batch_axis) for part in parts)
        batch = int(all_reduce_sum(torch.tensor(share, device=tensors_of(parts[0])[0].device)))
        noise: Tensor | None = None
        calls: dict[tuple[str, int], _Call] = {}
        for index, part in enumerate(parts):
            self.watch()
            try:
                outputs = predict(self.network, part, self.task.form)
            finally:
                self.unwatch()
            noise = self._noise(batch, outputs.shape[1:]) if noise is None else noise
            self._backward(calls, outputs, targets[index] if targets else None, noise[: len(outputs)], batch)
            noise = noise[len(outputs) :]
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

    def measure(self, outputs: Tensor, targets: Tensor | None = None) -> None:
        """:meth:`probe` on a batch that has been passed through the network, watched, in one part.

        It costs a backward pass from its ``outputs`` (``[N, ...]``), which can still be trained on.
        """
        calls: dict[tuple[str, int], _Call] = {}
        batch = int(all_reduce_sum(torch.tensor(len(outputs), device=outputs.device)))
        noise = self._noise(batch, outputs.shape[1:])[: len(outputs)]
        self._backward(calls, outputs, targets, noise, batch, keep_graph=True)
        self._update(calls, batch)

    def _noise(self, batch: int, shape: Sequence[int]) -> Tensor:
        """Random signs for this process's samples: every process draws the whole batch's, and takes its own rows."""
        signs = torch.randint(0, 2, (batch, *shape), generator=self.generator) * 2.0 - 1.0
        return signs[rank() :: world_size()]

    def _backward(
        self,
        calls: dict[tuple[str, int], _Call],
        outputs: Tensor,
        targets: Tensor | None,
        noise: Tensor,
        batch: int,
        *,
        keep_graph: bool = False,
    ) -> None:
        """Add what the calls watched and a backward pass of random slopes show to ``calls``."""
        watched, self.calls = self.calls, {}
        outputs = outputs.float()
        slopes = self.task.loss.slopes(outputs.detach(), targets, noise.to(outputs.device))
        loss = (outputs * slopes).sum() * (LOSS_SCALE / batch)
        rows = [
            ((name, index), *call) for name, layer_calls in watched.items() for index, call in enumerate(layer_calls)
        ]
        operands = [operand for _, _, spikes, weight in rows for operand in (spikes, weight)]
        # Zero where no output depends on an operand: a layer that nothing reads.
        gradients = torch.autograd.grad(loss, operands, retain_graph=keep_graph, materialize_grads=True)
        # Layers that read one neuron's spikes share what these are worth.
        readers = Counter(id(spikes) for _, _, spikes, _ in rows)
        with torch.no_grad():
            steps: dict[str, list[tuple[Tensor, Tensor]]] = {}
            for index, (key, x, spikes, _) in enumerate(rows):
                spike_grad, weight_grad = (grad.float() / LOSS_SCALE for grad in gradients[2 * index : 2 * index + 2])
                layer = self.network.layers[key[0]]
                spike_grad = spike_grad / readers[id(spikes)] ** 0.5
                if layer.frames is None or layer.loop == "frames":
                    x, spike_grad = x[None], spike_grad[None]
                else:
                    spike_grad = _by_frame(spike_grad, x.shape[0])
                if layer.loop == "frames" or layer.in_place:
                    # A call a frame, or a neuron, all with one quantized weight, whose gradient is that of all calls.
                    steps.setdefault(key[0], []).append((x, spike_grad))
                    if len(steps[key[0]]) < len(watched[key[0]]):
                        continue
                    of_a_frame = len(layer.neurons or ()) if layer.in_place else 1
                    at_once = of_a_frame if layer.loop == "frames" else len(steps[key[0]])
                    x, spike_grad = (_together(parts, at_once) for parts in zip(*steps[key[0]], strict=True))
                    key = key[0], 0
                self._add(calls.setdefault(key, _Call()), self.states[key[0]], x, spike_grad, weight_grad, batch)

    def _add(
        self, call: _Call, state: LayerFisher, x: Tensor, spike_grad: Tensor, weight_grad: Tensor, batch: int
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
    def _take_in(state: LayerFisher, call: _Call, batch: int) -> None:
        assert call.weight_grad is not None
        assert state.features is not None
        share = call.features / len(state.features)
        state.inputs = all_gather(torch.cat(call.inputs)).transpose(0, 1)
        # Mean over the batch of products of per-sample gradients; the loss is a mean, so each carries 1/N.
        sampled = torch.cat(call.spike_grads)
        features = all_reduce_sum(torch.einsum("nfk,ngk->fgk", sampled, sampled)) * batch * share
        state.weight_fisher = moving_average(
            state.weight_fisher, all_reduce_sum(call.weight_grad).square() * batch, SMOOTHING
        )
        state.feature_fisher = moving_average(state.feature_fisher, features, SMOOTHING)
        state.probes += 1
        state.probed()


def _by_frame(grad: Tensor, frames: int) -> Tensor:
    """``[T, ...]`` to ``[F, ...]``: each time step's gradient, in equal parts to the frames that show it."""
    indices = step_indices(frames, grad.shape[0], grad.device)
    return (grad / torch.bincount(indices).view(-1, *[1] * (grad.dim() - 1)))[indices]


def _together(parts: Sequence[Tensor], at_once: int) -> Tensor:
    """``[F, N, features]`` of calls ``[F, N, ...]``, every ``at_once`` of which have features of the same frames."""
    flat = [part.flatten(2) if part.dim() > 2 else part.unsqueeze(2) for part in parts]
    return torch.cat([torch.cat(flat[first : first + at_once], 2) for first in range(0, len(flat), at_once)])


def _appender(calls: list[tuple[Tensor, Tensor, Tensor]]) -> Observer:
    def observe(x: Tensor, spikes: Tensor, weight: Tensor) -> None:
        calls.append((x.detach(), spikes, weight))

    return observe
