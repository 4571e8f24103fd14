"""The curvature signal, corrected by what changes of single layers really do to the network's output.

The Fisher's diagonal leaves out how a layer's errors add up, and the layers behind it. So every few steps one layer
gets one bit less for a single forward pass, and the divergence of the batch's predictions (Kullback-Leibler's for
cross-entropy), which is the change of the loss that the curvature predicts, is compared with the prediction (our own
contribution). A layer's weights and its spikes each have a factor for what was found; time steps share that of the
spikes. Layers that share a number change together, and have one factor.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from bitsearch.allocation.signals.binning import BinningLoss
from bitsearch.allocation.signals.changed_bits import changed_bits
from bitsearch.allocation.signals.fisher_loss import FisherLossModel
from bitsearch.allocation.signals.moving_average import moving_average
from bitsearch.distributed import all_reduce_sum
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.network_inputs import Inputs
from bitsearch.plan import LayerPlan
from bitsearch.train.predict import predict
from bitsearch.train.tasks import CLASSIFICATION, LearningTask

Operand = Literal["weights", "spikes"]

SMOOTHING = 0.5
"""Weight of the past in a running correction, a mean of logarithms."""
LARGEST = math.log(32.0)
"""Of a correction, in either direction: a batch's divergence has noise of its own."""
LEAST = 1e-7
"""Divergences below are the rounding of float32 logits, and show nothing."""


class CalibratedFisher(FisherLossModel):
    """A :class:`FisherLossModel` that :meth:`correct` corrects, a layer a call.

    Args:
        network: as for the base class; in training mode, whose batch statistics the probes use.
        seed: as for the base class.
        depth_preference: as for the base class.
        batch_axis: as for the base class.
        weight_tolerance: as for the base class.
        time_tolerance: as for the base class.
        binning: as for the base class; it is measured, and not corrected.
        task: as for the base class.
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
        super().__init__(
            network,
            seed,
            depth_preference,
            batch_axis,
            weight_tolerance=weight_tolerance,
            time_tolerance=time_tolerance,
            binning=binning,
            task=task,
        )
        self.corrections: dict[tuple[str, Operand], float] = {}
        """Logarithms of the factors found so far."""
        self.turn = 0

    def state_dict(self) -> dict[str, Any]:
        """The corrections too."""
        return super().state_dict() | {"corrections": self.corrections, "turn": self.turn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        super().load_state_dict(state)
        self.corrections, self.turn = dict(state["corrections"]), state["turn"]

    def weight_loss(self, name: str, weight_bits: int) -> float:
        """As predicted, times the factor found for the layer's weights."""
        return super().weight_loss(name, weight_bits) * self._factor(name, "weights")

    def neuron_loss(self, name: str, spike_bits: tuple[int, ...], membrane: int | None = None) -> float:
        """As predicted, times the factor found for the layer's spikes."""
        return super().neuron_loss(name, spike_bits, membrane) * self._factor(name, "spikes")

    def _sharing(self, name: str, operand: Operand) -> tuple[str, ...]:
        """The layers whose operand has the same bits."""
        return self.network.rules.sharing(name, "weight_bits" if operand == "weights" else "spike_bits")

    def _factor(self, name: str, operand: Operand) -> float:
        # What has not had its turn yet counts as the others do on the average, or it would look cheap beside them.
        rest = [correction for (_, kind), correction in self.corrections.items() if kind == operand]
        first = self._sharing(name, operand)[0]
        return math.exp(self.corrections.get((first, operand), sum(rest) / max(len(rest), 1)))

    def correct(self, inputs: Inputs) -> None:
        """Measure the next layer's weights or spikes on a batch, ``[N, ...]`` or ``[T, N, ...]``: two forward passes.

        Probe the Fisher before. The network is left as it was, its running statistics and generators too.
        """
        operands: tuple[Operand, ...] = ("weights", "spikes")
        names = self.network.searched_layers
        turns = [(name, operand) for name in names for operand in operands if self._sharing(name, operand)[0] == name]
        name, operand = turns[self.turn % len(turns)]
        self.turn += 1
        plans = {}
        predicted = 0.0
        for layer_name in self._sharing(name, operand):
            layer = self.network.layers[layer_name]
            plan, other = layer.layer_plan, _neighbour(layer, operand)
            if other is None:
                return
            plans[layer_name] = other
            predicted += self._uncorrected(layer_name, operand, other) - self._uncorrected(layer_name, operand, plan)
        predicted = abs(predicted)
        divergence = self.divergence(plans, inputs)
        if divergence < LEAST or not predicted:
            return
        new = max(-LARGEST, min(LARGEST, math.log(divergence / predicted)))
        past = self.corrections.get((name, operand))
        self.corrections[name, operand] = moving_average(past, new, SMOOTHING)

    def _uncorrected(self, name: str, operand: Operand, plan: LayerPlan) -> float:
        if operand == "weights":
            super().weight_loss(name, plan.weight_bits)
            return self.states[name].weight_losses[plan.weight_bits]
        return super().neuron_loss(name, plan.spike_bits)

    @torch.no_grad()
    def divergence(self, plans: Mapping[str, LayerPlan], inputs: Inputs) -> float:
        """Of a batch's predictions from those with ``plans`` in these layers, as the loss has it, a sample."""
        now = self._predictions(inputs)
        with changed_bits(self.network, plans):
            changed = self._predictions(inputs)
        sums = torch.stack([self.task.loss.divergence(now, changed), now.new_tensor(len(now))])
        divergence, samples = all_reduce_sum(sums.double()).tolist()
        return float(divergence / samples)

    def _predictions(self, inputs: Inputs) -> Tensor:
        """Outputs ``[N, ...]``."""
        # Layers' own buffers may change: a stale step is renewed, as the training's forward pass would have done.
        rest = [module for module in self.network.modules() if not isinstance(module, QuantizedLayer)]
        statistics = [(buffer, buffer.clone()) for module in rest for buffer in module.buffers(recurse=False)]
        # The same elements dropped out in both passes, and in the training what would have been without them.
        device = next(self.network.parameters()).device
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            outputs = predict(self.network, inputs, self.task.form)
        for buffer, before in statistics:
            buffer.copy_(before)
        return outputs.float()


def _neighbour(layer: QuantizedLayer, operand: Operand) -> LayerPlan | None:
    """The layer's plan with one bit less, at the lower bound one more; None where there is no choice."""
    plan, choices = layer.layer_plan, layer.choices
    assert choices is not None
    for direction in (-1, 1):
        if operand == "weights":
            bits = choices.weight_bits.neighbour(plan.weight_bits, direction)
            if bits is not None:
                return plan.model_copy(update={"weight_bits": bits})
        else:
            steps = [choices.spike_bits.neighbour(bits, direction) for bits in plan.spike_bits]
            moved = tuple(old if new is None else new for old, new in zip(plan.spike_bits, steps, strict=True))
            if moved != plan.spike_bits:
                return plan.model_copy(update={"spike_bits": moved})
    return None
