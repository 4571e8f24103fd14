"""Adaptive allocation (Yao et al. 2025): bits and time steps learned by gradient while the network trains.

The bits move during the search phase, pulled down by the budget and held up by the task; the result is projected onto
the budget exactly, frozen, and fine-tuned.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bitsearch.allocate.budget_control import BudgetController, means_penalty, metric_penalty
from bitsearch.allocate.curvature import Curvature
from bitsearch.allocate.projection import LossModel, loss_change, moves, project
from bitsearch.allocate.quantized_network import QuantizedNetwork, make_learnable
from bitsearch.allocate.trainer import Callback, OnEpoch, train
from bitsearch.cost import Budget, CostModel
from bitsearch.data import Splits
from bitsearch.plan import LayerPlan
from bitsearch.space import Allocation, Choices, SearchSpace

RENEWAL_STOPS_AT = 0.24
"""Renewal stops once (mean bits − target) is below this share of its starting value (Yao et al. 2025)."""


class BudgetPull(Callback):
    """Adds the budget's penalty to the loss and tightens the limit over the first half of the search phase."""

    def __init__(self, network: QuantizedNetwork, budget: Budget, knobs: Allocation, steps: int) -> None:
        self.network, self.budget, self.knobs, self.steps = network, budget, knobs, steps
        self.controller = BudgetController()
        self.prices = (knobs.weight_price, knobs.spike_price, knobs.time_price)
        least = network.model.least(budget.metric, network.choices.smallest, network.first_layer)
        self.limit = max(budget.limit * knobs.budget_share, least)
        self.start_cost = network.model.cost(budget.metric, network.layer_plans)
        start_means = network.model.means(network.layer_plans)
        # The published form needs a target per mean: each shrinks by the same factor, to at least one bit or step.
        shrink = (self.limit / self.start_cost) ** (1 / 3)
        self.targets = (
            max(1.0, start_means[0] * shrink),
            max(1.0, start_means[1] * shrink),
            max(1.0, start_means[2] * shrink),
        )
        self.step = 0

    def penalty(self) -> Tensor:
        """Λ·log(cost/limit), or the published means form."""
        self.step += 1
        allocation, model = self.network.allocation, self.network.model
        progress = min(1.0, 2 * self.step / self.steps)
        limit = self.start_cost ** (1 - progress) * self.limit**progress
        violation = metric_penalty(model, self.budget.metric, limit, allocation, self.prices)
        self.controller.update(violation)
        if self.knobs.regularizer == "means":
            return self.controller.weight * means_penalty(model, self.targets, allocation, self.prices)
        return self.controller.weight * violation

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Cost, mean bits and the penalty's weight."""
        plans, model = self.network.layer_plans, self.network.model
        weights, spikes, time_steps = model.means(plans)
        return {
            self.budget.metric: model.cost(self.budget.metric, plans),
            "mean_weight_bits": weights,
            "mean_spike_bits": spikes,
            "mean_time_steps": time_steps,
            "penalty_weight": float(self.controller.weight),
            "changes": float(self.network.changes),
        }


class Renewal(Callback):
    """Switches step renewal off, separately for weights and spikes, once the means are near their targets."""

    def __init__(self, network: QuantizedNetwork, pull: BudgetPull, knobs: Allocation) -> None:
        self.network, self.targets, self.knobs = network, pull.targets[:2], knobs
        self.starts = network.model.means(network.layer_plans)[:2]
        self._set(weights=knobs.renewal, spikes=knobs.renewal)

    def _set(self, *, weights: bool | None = None, spikes: bool | None = None) -> None:
        for layer in self.network.layers.values():
            layer.renew_weights = layer.renew_weights if weights is None else weights
            layer.renew_spikes = layer.renew_spikes if spikes is None else spikes

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Stop where the mean has come close enough."""
        if epoch >= self.knobs.renewal_epochs:
            near = [
                mean - target < RENEWAL_STOPS_AT * (start - target)
                for mean, target, start in zip(
                    self.network.model.means(self.network.layer_plans)[:2], self.targets, self.starts, strict=True
                )
            ]
            self._set(weights=False if near[0] else None, spikes=False if near[1] else None)
        return {}


class CurvatureSignal(Callback):
    """Measures the curvature; with ``estimator = "curvature"`` it replaces the latents' straight-through gradient.

    With ``"straight_through"`` it only serves the projection.
    """

    def __init__(self, network: QuantizedNetwork, knobs: Allocation, seed: int) -> None:
        self.network, self.knobs = network, knobs
        self.curvature = Curvature(network, seed, knobs.depth_preference)
        self.steers = knobs.estimator == "curvature"
        for layer in network.searched_layers.values():
            layer.straight_through = not self.steers
        self.batch = 0
        self.slopes: dict[str, tuple[LayerPlan, Tensor]] = {}

    def before_batch(self, inputs: Tensor) -> None:
        """Probe every few batches."""
        if self.batch % self.knobs.probe_every == 0:
            self.curvature.probe(inputs)
            self.slopes.clear()
        self.batch += 1

    def penalty(self) -> Tensor | None:
        """Σ slope·latent: its gradient is the predicted slope of the loss."""
        if not self.steers:
            return None
        total = torch.zeros(())
        for name, layer in self.network.searched_layers.items():
            latents = layer.latents
            total = total.to(latents.device) + (self._slopes(name, latents) * latents).sum()
        return total

    def _slopes(self, name: str, latents: Tensor) -> Tensor:
        """Predicted dL/dlatent ``[2 + T_max]``: of weight bits, time steps, and each step's spike bits."""
        plan = self.network.layers[name].layer_plan
        if name not in self.slopes or self.slopes[name][0] != plan:
            self.slopes[name] = (plan, _both_slopes(plan, name, self.curvature, self.network.choices, len(latents)))
        down, up = self.slopes[name][1].to(latents.device)
        rounded = torch.tensor(
            [plan.weight_bits, plan.time_steps, *plan.spike_bits, *[0] * (len(latents) - 2 - plan.time_steps)]
        ).to(latents)
        # The loss is taken to be linear between whole numbers: the side on which a latent lies has its slope.
        return torch.where(latents.detach() >= rounded, up, down)


def _both_slopes(plan: LayerPlan, name: str, loss: LossModel, choices: Choices, slots: int) -> Tensor:
    """``[2, slots]``: loss(here) − loss(one less), and loss(one more) − loss(here); 0 at the bounds."""
    rows = torch.zeros(2, slots)
    for row, direction in enumerate((-1, 1)):
        for move in moves(plan, choices, direction):
            rows[row, move.slot] = direction * loss_change(loss, name, plan, move)
    return rows


def allocate_adaptively(
    network: nn.Module,
    model: CostModel,
    splits: Splits,
    space: SearchSpace,
    knobs: Allocation,
    budget: Budget,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> QuantizedNetwork:
    """Search, project, freeze and fine-tune; the result meets the budget exactly.

    Args:
        network: trained full-precision network, on its device; left as it is.
        model: its costs.
        splits: data.
        space: choices, first layer, training.
        knobs: of this trial.
        budget: feasible.
        seed: of batches, sampled labels and features.
        on_epoch: gets a record after every epoch.
    """
    quantized = make_searchable(network, model, space, knobs)
    search_epochs = max(1, round(space.training.epochs * knobs.search_share))
    steps = search_epochs * math.ceil(len(splits.train) / space.training.batch_size)  # type: ignore[arg-type]
    pull = BudgetPull(quantized, budget, knobs, steps)
    signal = CurvatureSignal(quantized, knobs, seed)
    train(
        quantized,
        splits,
        space.training,
        epochs=search_epochs,
        seed=seed,
        phase="search",
        anneal=False,
        callbacks=[pull, Renewal(quantized, pull, knobs), signal],
        latent_rates={
            "bits_learning_rate": knobs.bits_learning_rate,
            "time_learning_rate": knobs.time_learning_rate,
        },
        on_epoch=on_epoch,
    )
    target = Budget(budget.metric, budget.requested, pull.limit)
    plan = project(
        quantized.layer_plans,
        model,
        target,
        space.choices,
        searched=list(quantized.searched_layers),
        loss=signal.curvature,
        prices=_prices(knobs),
    )
    quantized.fix(plan)
    if space.training.epochs > search_epochs:
        train(
            quantized,
            splits,
            space.training,
            epochs=space.training.epochs - search_epochs,
            seed=seed + 1,
            phase="fine-tune",
            on_epoch=on_epoch,
        )
    return quantized


def _prices(knobs: Allocation) -> Mapping[str, float]:
    return {"weight": knobs.weight_price, "spike": knobs.spike_price, "time": knobs.time_price}


def make_searchable(network: nn.Module, model: CostModel, space: SearchSpace, knobs: Allocation) -> QuantizedNetwork:
    """A quantized copy of ``network`` whose latents start at ``knobs.start``."""
    return make_learnable(
        network,
        model,
        choices=space.choices,
        start=knobs.start,
        first_layer=space.first_layer,
        baseline=space.baseline,
        granularity=knobs.granularity,
        decay=knobs.decay,
    )
