"""Adaptive allocation (Yao et al. 2025): bits and time steps learned by gradient while the network trains.

The bits move during the search phase, pulled down by the budget and held up by the task; the result is projected onto
the budget exactly, frozen, and fine-tuned.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from bitsearch.allocate.budget_control import BudgetController, aim, means_penalty, metric_penalty
from bitsearch.allocate.checkpoints import Checkpoints
from bitsearch.allocate.curvature import Curvature
from bitsearch.allocate.evaluation import evaluate_with_activity, measure_activity
from bitsearch.allocate.fabric import make_fabric
from bitsearch.allocate.method import Problem
from bitsearch.allocate.moves import LossModel, loss_change, moves
from bitsearch.allocate.probing import ProbedCurvature
from bitsearch.allocate.quantized_network import QuantizedNetwork, make_learnable
from bitsearch.allocate.settle import settle
from bitsearch.allocate.trainer import Callback, OnEpoch, train
from bitsearch.cost import Budget, CostModel, Rules
from bitsearch.data import Splits
from bitsearch.plan import LayerPlan
from bitsearch.space import Allocation, Choices, SearchSpace

RENEWAL_STOPS_AT = 0.24
"""Renewal stops once (mean bits − target) is below this share of its starting value (Yao et al. 2025)."""


class BudgetPull(Callback):
    """Adds every budget's penalty to the loss and tightens the limits over the first half of the search phase."""

    def __init__(self, network: QuantizedNetwork, budgets: Sequence[Budget], knobs: Allocation, steps: int) -> None:
        self.network, self.budgets, self.knobs, self.steps = network, budgets, knobs, steps
        self.controllers = [BudgetController() for _ in budgets]
        self.prices = (knobs.weight_price, knobs.spike_price, knobs.time_price)
        model, plans, smallest = network.model, network.layer_plans, network.rules.smallest(network.model)
        self.limits = [aim(budget, model, smallest, knobs.budget_share, network.activity) for budget in budgets]
        self.start_costs = [model.cost(budget.metric, plans, network.activity) for budget in budgets]
        start_means = model.means(plans)
        # The published form needs a target per mean: each shrinks by the same factor, to at least one bit or step.
        shrink = min(1.0, *(limit / start for limit, start in zip(self.limits, self.start_costs, strict=True)))
        self.targets = tuple(max(1.0, mean * shrink ** (1 / 3)) for mean in start_means)
        self.step = 0

    def penalty(self) -> Tensor:
        """Σ Λ·log(cost/limit) over the budgets, or the published means form."""
        self.step += 1
        allocation, model = self.network.allocation, self.network.model
        progress = min(1.0, 2 * self.step / self.steps)
        total = allocation[0].new_zeros(())
        for budget, controller, last, start in zip(
            self.budgets, self.controllers, self.limits, self.start_costs, strict=True
        ):
            # A limit above the start is there from the beginning, so that it does not push bits up.
            limit = last if start < last else start ** (1 - progress) * last**progress
            activity = self.network.activity
            violation = metric_penalty(model, budget.metric, limit, allocation, self.prices, activity)
            controller.update(violation)
            total = total + controller.weight * violation
        if self.knobs.regularizer == "means":
            weight = torch.stack([controller.weight for controller in self.controllers]).max()
            return weight * means_penalty(model, self.targets, allocation, self.prices)
        return total

    def state_dict(self) -> dict[str, Any]:
        """How far the limits are, and the controllers."""
        return {"step": self.step, "controllers": [controller.state_dict() for controller in self.controllers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.step = state["step"]
        for controller, saved in zip(self.controllers, state["controllers"], strict=True):
            controller.load_state_dict(saved)

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Costs, mean bits, the penalties' largest weight; bit changes and step renewals since the start."""
        plans, model = self.network.layer_plans, self.network.model
        weights, spikes, time_steps = model.means(plans)
        # Every metric: the report shows that of the front's axis, which may have no budget.
        return model.costs(plans, self.network.activity) | {
            "mean_weight_bits": weights,
            "mean_spike_bits": spikes,
            "mean_time_steps": time_steps,
            "penalty_weight": max(float(controller.weight) for controller in self.controllers),
            "changes": float(self.network.changes),
            "renewals": float(sum(layer.renewals for layer in self.network.layers.values())),
        }


class FiringMeter(Callback):
    """Counts spikes now and then, for budgets that depend on how often neurons fire."""

    def __init__(self, network: QuantizedNetwork, every: int) -> None:
        self.network, self.every, self.batch = network, every, 0

    def before_batch(self, *parts: Tensor) -> None:
        """Count on this batch, every few batches."""
        if self.batch % self.every == 0:
            self.network.activity = measure_activity(self.network, *parts, shared=True)
        self.batch += 1

    def state_dict(self) -> dict[str, Any]:
        """The number of batches; what was counted is the network's."""
        return {"batch": self.batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.batch = state["batch"]


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

    def state_dict(self) -> dict[str, Any]:
        """Which layers still renew."""
        return {name: (layer.renew_weights, layer.renew_spikes) for name, layer in self.network.layers.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on so."""
        for name, layer in self.network.layers.items():
            layer.renew_weights, layer.renew_spikes = state[name]

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
    """Measures the curvature, which replaces the latents' straight-through gradient.

    With ``estimator = "straight_through"`` it only serves the projection; ``"probed"`` corrects it by probes.
    """

    def __init__(self, network: QuantizedNetwork, knobs: Allocation, seed: int, batch_axis: int = 0) -> None:
        self.network, self.knobs = network, knobs
        kind = ProbedCurvature if knobs.estimator == "probed" else Curvature
        self.curvature = kind(
            network, seed, knobs.depth_preference, batch_axis, weight_tolerance=knobs.weight_tolerance
        )
        self.steers = knobs.estimator != "straight_through"
        for layer in network.searched_layers.values():
            layer.straight_through = not self.steers
        self.batch, self.due = 0, False
        self.plans: dict[str, LayerPlan] = {}
        """Of the layers whose slopes are known: the bits that they are known at."""
        self.slopes: dict[str, Tensor] = {}
        self.sides = torch.zeros(3, 0)
        """``[3, all latents]``: slopes below and above the rounded values, and these."""

    def before_batch(self, *parts: Tensor) -> None:
        """Measure every few batches: here, or with the batch's own activations where they come in one part."""
        turn, batches = divmod(self.batch, self.knobs.probe_every)
        correct = isinstance(self.curvature, ProbedCurvature) and turn % 2 == 1
        # Still due is what memory did not suffice for; the batch is begun again.
        now = self.due or not (batches or correct)
        if isinstance(self.curvature, ProbedCurvature) and correct and not batches:
            self.curvature.correct(parts[0])
            self.plans.clear()
        self.due = now and len(parts) == 1
        if self.due:
            self.curvature.watch()
        elif now:
            self.curvature.probe(*parts)
            self.plans.clear()
        self.batch += 1

    def after_forward(self, logits: Tensor) -> None:
        """Probe with the activations of the training step, which costs a backward pass alone."""
        if self.due:
            self.due = False
            self.curvature.unwatch()
            self.curvature.measure(logits)
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
            rows[row, move.slot] = direction * change / move.distance
    return rows


def allocate_adaptively(
    network: nn.Module,
    model: CostModel,
    rules: Rules,
    splits: Splits,
    space: SearchSpace,
    knobs: Allocation,
    budgets: Sequence[Budget],
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
    fabric: Fabric | None = None,
    checkpoints: Checkpoints | None = None,
) -> QuantizedNetwork:
    """Search, project, freeze and fine-tune; the result meets every budget exactly.

    A budget that depends on how often neurons fire is met as :func:`bitsearch.allocate.settle.settle` says.

    Args:
        network: trained full-precision network, on its device; left as it is.
        model: its costs.
        rules: what each layer may get.
        splits: data.
        space: training.
        knobs: of this trial.
        budgets: feasible.
        seed: of batches and probes.
        on_epoch: gets a record after every epoch.
        fabric: as for :func:`bitsearch.allocate.trainer.train`; made once for all phases by default.
        checkpoints: as there, of all phases.
    """
    fabric = fabric or make_fabric(next(network.parameters()).device, space.training.precision)
    quantized = make_searchable(network, model, rules, space, knobs)
    training = space.training
    search_epochs = max(1, round(training.epochs * knobs.search_share))
    steps = search_epochs * math.ceil(len(splits.train) / training.batch_size)  # type: ignore[arg-type]
    by_firing = [budget for budget in budgets if model.needs_activity(budget.metric)]
    meters: list[Callback] = []
    if by_firing:
        _, quantized.activity = evaluate_with_activity(quantized, splits.validation, training.at_once, shared=True)
        meters = [FiringMeter(quantized, knobs.probe_every)]
    pull = BudgetPull(quantized, budgets, knobs, steps)
    signal = CurvatureSignal(quantized, knobs, seed, splits.batch_axis)
    train(
        quantized,
        splits,
        training,
        epochs=search_epochs,
        seed=seed,
        phase="search",
        anneal=False,
        callbacks=[*meters, pull, Renewal(quantized, pull, knobs), signal],
        latent_rates={
            "bits_learning_rate": knobs.bits_learning_rate,
            "time_learning_rate": knobs.time_learning_rate,
        },
        on_epoch=on_epoch,
        fabric=fabric,
        checkpoints=checkpoints,
    )
    settle(
        quantized,
        Problem(
            network,
            model,
            rules,
            splits,
            space,
            knobs,
            budgets,
            seed,
            on_epoch=on_epoch,
            fabric=fabric,
            checkpoints=checkpoints,
        ),
        epochs=training.epochs - search_epochs,
        seed=seed + 1,
        limits=[replace(budget, limit=limit) for budget, limit in zip(budgets, pull.limits, strict=True)],
        loss=signal.curvature,
        prices=knobs.prices,
    )
    return quantized


def make_searchable(
    network: nn.Module, model: CostModel, rules: Rules, space: SearchSpace, knobs: Allocation
) -> QuantizedNetwork:
    """A quantized copy of ``network`` whose latents start at ``knobs.start``."""
    return make_learnable(
        network,
        model,
        rules=rules,
        start=knobs.start,
        baseline=space.baseline,
        granularity=knobs.granularity,
        decay=knobs.decay,
    )
