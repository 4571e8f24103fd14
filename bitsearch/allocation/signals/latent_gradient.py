"""The task's gradient with respect to the bits, from the predicted losses of one unit more and one less."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bitsearch.allocation.loss_model import LossModel
from bitsearch.allocation.moves import loss_change, moves
from bitsearch.allocation.signals.binning import BinningLoss
from bitsearch.allocation.signals.fisher_loss import FisherLossModel
from bitsearch.allocation.signals.probed_loss import CalibratedFisher
from bitsearch.allocation_settings import Allocation
from bitsearch.choices import Choices
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.network_inputs import Inputs
from bitsearch.plan import LayerPlan
from bitsearch.train.loop import Callback
from bitsearch.train.tasks import CLASSIFICATION, LearningTask


class LatentGradientCallback(Callback):
    """Measures the curvature, which replaces the latents' straight-through gradient.

    With ``estimator = "straight_through"`` it only serves the projection; ``"probed"`` corrects it by probes.
    ``shares_activations`` is for trainings in float32: a curvature that is measured with a training step's own
    activations has their precision.
    """

    def __init__(
        self,
        network: QuantizedNetwork,
        settings: Allocation,
        seed: int,
        batch_axis: int = 0,
        binning: BinningLoss | None = None,
        task: LearningTask = CLASSIFICATION,
        *,
        shares_activations: bool = True,
    ) -> None:
        self.network, self.settings, self.shares_activations = network, settings, shares_activations
        kind = CalibratedFisher if settings.estimator == "probed" else FisherLossModel
        self.curvature = kind(
            network,
            seed,
            settings.depth_preference,
            batch_axis,
            weight_tolerance=settings.weight_tolerance,
            time_tolerance=settings.time_tolerance,
            binning=binning,
            task=task,
        )
        self.steers = settings.estimator != "straight_through"
        for layer in network.searched_layers.values():
            layer.straight_through = not self.steers
        self.batch, self.due = 0, False
        self.targets: Sequence[Tensor] = ()
        self.plans: dict[str, LayerPlan] = {}
        """Of the layers whose slopes are known: the bits that they are known at."""
        self.slopes: dict[str, Tensor] = {}
        self.sides = torch.zeros(3, 0)
        """``[3, all latents]``: slopes below and above the rounded values, and these."""

    def before_batch(self, *parts: Inputs, targets: Sequence[Tensor] = ()) -> None:
        """Measure every few batches: here, or with the batch's own activations where they come in one part."""
        turn, batches = divmod(self.batch, self.settings.probe_every)
        correct = isinstance(self.curvature, CalibratedFisher) and turn % 2 == 1
        # Still due is what memory did not suffice for; the batch is begun again.
        now = self.due or not (batches or correct)
        if isinstance(self.curvature, CalibratedFisher) and correct and not batches:
            self.curvature.correct(parts[0])
            self.plans.clear()
        self.due, self.targets = now and len(parts) == 1 and self.shares_activations, targets
        if self.due:
            self.curvature.watch()
        elif now:
            self.curvature.probe(*parts, targets=targets)
            self.plans.clear()
        self.batch += 1

    def after_forward(self, outputs: Tensor) -> None:
        """Probe with the activations of the training step, which costs a backward pass alone."""
        if self.due:
            self.due = False
            self.curvature.unwatch()
            self.curvature.measure(outputs, self.targets[0] if self.targets else None)
            self.plans.clear()

    def state_dict(self) -> dict[str, Any]:
        """The number of batches, and the curvature; slopes follow from it."""
        return {"batch": self.batch, "curvature": self.curvature.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.batch = state["batch"]
        self.curvature.load_state_dict(state["curvature"])

    def penalty(self) -> Tensor | None:
        """Σ slope·latent: its gradient is the predicted slope of the loss."""
        if not self.steers:
            return None
        layers = self.network.searched_layers
        latents = torch.cat([layer.latents for layer in layers.values()])
        plans = {name: layer.layer_plan for name, layer in layers.items()}
        if plans != self.plans:
            for name, plan in plans.items():
                if self.plans.get(name) != plan:
                    self.slopes[name] = self._both_sides(name, plan)
            self.plans, self.sides = plans, torch.cat([self.slopes[name] for name in plans], 1).to(latents.device)
        down, up, rounded = self.sides
        # The loss is taken to be linear between whole numbers: the side on which a latent lies has its slope.
        return (torch.where(latents.detach() >= rounded, up, down) * latents).sum()

    def _both_sides(self, name: str, plan: LayerPlan) -> Tensor:
        """``[3, 2 + T_max]``: :func:`_both_slopes`, and the rounded values that the latents stand for."""
        layer = self.network.layers[name]
        assert layer.choices is not None
        slots = len(layer.latents)
        slopes = _both_slopes(plan, name, self.curvature, layer.choices, slots)
        unused = [0] * (slots - 2 - plan.time_steps)
        rounded = torch.tensor([[plan.weight_bits, plan.time_steps, *plan.spike_bits, *unused]], dtype=slopes.dtype)
        return torch.cat([slopes, rounded])


def _both_slopes(plan: LayerPlan, name: str, loss: LossModel, choices: Choices, slots: int) -> Tensor:
    """``[2, slots]``: loss(here) − loss(less), and loss(more) − loss(here), each a unit of bits; 0 at the bounds."""
    rows = torch.zeros(2, slots)
    for row, direction in enumerate((-1, 1)):
        for move in moves(plan.weight_bits, plan.spike_bits, choices, direction):
            change = loss_change(loss, name, plan.weight_bits, plan.spike_bits, move)
            rows[row, move.latent_index] = direction * change / move.distance
    return rows
