"""Adaptive allocation (Yao et al. 2025): bits and time steps learned by gradient while the network trains.

The bits move during the search phase, pulled down by the budget and held up by the task; the result is projected onto
the budget exactly, frozen, and fine-tuned.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bitsearch.allocate.budget_control import BudgetController, means_penalty, metric_penalty
from bitsearch.allocate.checkpoint import Checkpoint
from bitsearch.allocate.curvature import Curvature
from bitsearch.allocate.evaluation import evaluate_with_activity, measure_activity
from bitsearch.allocate.projection import LossModel, loss_change, moves, project
from bitsearch.allocate.quantized_network import QuantizedNetwork, make_learnable
from bitsearch.allocate.trainer import Callback, OnEpoch, train
from bitsearch.cost import Activity, Budget, CostModel, Rules
from bitsearch.data import Splits
from bitsearch.plan import LayerPlan
from bitsearch.space import Allocation, Choices, SearchSpace

CORRECTIONS = 3
"""Most attempts to meet a budget that depends on how often neurons fire, after the first."""
CORRECTION = 0.93
"""Each aims at this share of what the one before aimed at."""

RENEWAL_STOPS_AT = 0.24
"""Renewal stops once (mean bits − target) is below this share of its starting value (Yao et al. 2025)."""


class BudgetPull(Callback):
    """Adds every budget's penalty to the loss and tightens the limits over the first half of the search phase."""

    def __init__(self, network: QuantizedNetwork, budgets: Sequence[Budget], knobs: Allocation, steps: int) -> None:
        self.network, self.budgets, self.knobs, self.steps = network, budgets, knobs, steps
        self.controllers = [BudgetController() for _ in budgets]
        self.prices = (knobs.weight_price, knobs.spike_price, knobs.time_price)
        model, plans, smallest = network.model, network.layer_plans, network.rules.smallest(network.model)
        self.limits = [aim(budget, model, smallest, knobs, network.activity) for budget in budgets]
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
        """Costs, mean bits and the penalties' largest weight."""
        plans, model = self.network.layer_plans, self.network.model
        weights, spikes, time_steps = model.means(plans)
        # Every metric: the report shows that of the front's axis, which may have no budget.
        return model.costs(plans, self.network.activity) | {
            "mean_weight_bits": weights,
            "mean_spike_bits": spikes,
            "mean_time_steps": time_steps,
            "penalty_weight": max(float(controller.weight) for controller in self.controllers),
            "changes": float(self.network.changes),
        }


def aim(
    budget: Budget, model: CostModel, smallest: Mapping[str, LayerPlan], knobs: Allocation, activity: Activity | None
) -> float:
    """What the inner loop aims at: a share of a budget's limit, but nothing below the cheapest plan's cost."""
    return min(budget.limit, max(budget.limit * knobs.budget_share, model.cost(budget.metric, smallest, activity)))


class FiringMeter(Callback):
    """Counts spikes now and then, for budgets that depend on how often neurons fire."""

    def __init__(self, network: QuantizedNetwork, every: int) -> None:
        self.network, self.every, self.batch = network, every, 0

    def before_batch(self, inputs: Tensor) -> None:
        """Count on this batch, every few batches."""
        if self.batch % self.every == 0:
            self.network.activity = measure_activity(self.network, inputs)
        self.batch += 1

    def state_dict(self) -> dict[str, Any]:
        """The number of batches; what was counted is the method's."""
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
        total = torch.zeros(())
        for name, layer in self.network.searched_layers.items():
            latents = layer.latents
            total = total.to(latents.device) + (self._slopes(name, latents) * latents).sum()
        return total

    def _slopes(self, name: str, latents: Tensor) -> Tensor:
        """Predicted dL/dlatent ``[2 + T_max]``: of weight bits, time steps, and each step's spike bits."""
        layer = self.network.layers[name]
        plan = layer.layer_plan
        if name not in self.slopes or self.slopes[name][0] != plan:
            assert layer.choices is not None
            self.slopes[name] = (plan, _both_slopes(plan, name, self.curvature, layer.choices, len(latents)))
        down, up = self.slopes[name][1].to(latents.device)
        rounded = torch.tensor(
            [plan.weight_bits, plan.time_steps, *plan.spike_bits, *[0] * (len(latents) - 2 - plan.time_steps)]
        ).to(latents)
        # The loss is taken to be linear between whole numbers: the side on which a latent lies has its slope.
        return torch.where(latents.detach() >= rounded, up, down)


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
    checkpoint: Checkpoint | None = None,
) -> QuantizedNetwork:
    """Search, project, freeze and fine-tune; the result meets every budget exactly.

    A budget that depends on how often neurons fire is met by what was counted on the validation split after
    fine-tuning; where it is not, bits are taken away and the network is tuned again, at most :data:`CORRECTIONS` times.
    Such a budget alone may end up not met: nobody can know before how often neurons will fire.

    Args:
        network: trained full-precision network, on its device; left as it is.
        model: its costs.
        rules: what each layer may get.
        splits: data.
        space: training.
        knobs: of this trial.
        budgets: feasible.
        seed: of batches, sampled labels and features.
        on_epoch: gets a record after every epoch.
        checkpoint: where one was interrupted, to go on from its last whole epoch.
    """
    checkpoint = checkpoint or Checkpoint()
    quantized = make_searchable(network, model, rules, space, knobs)
    training = space.training
    search_epochs = max(1, round(training.epochs * knobs.search_share))
    steps = search_epochs * math.ceil(len(splits.train) / training.batch_size)  # type: ignore[arg-type]
    by_firing = [budget for budget in budgets if model.needs_activity(budget.metric)]
    meters: list[Callback] = []
    if by_firing:
        _, quantized.activity = evaluate_with_activity(quantized, splits.validation, training.batch_size)
        meters = [FiringMeter(quantized, knobs.probe_every)]
    pull = BudgetPull(quantized, budgets, knobs, steps)
    signal = CurvatureSignal(quantized, knobs, seed)
    renewal = Renewal(quantized, pull, knobs)
    limits = [replace(budget, limit=limit) for budget, limit in zip(budgets, pull.limits, strict=True)]
    allotted = _Allotted(quantized, limits)
    checkpoint.parts["allotted"] = allotted
    if checkpoint.saved_phase <= 0:
        train(
            quantized,
            splits,
            training,
            epochs=search_epochs,
            seed=seed,
            phase="search",
            anneal=False,
            callbacks=[*meters, pull, renewal, signal],
            latent_rates={
                "bits_learning_rate": knobs.bits_learning_rate,
                "time_learning_rate": knobs.time_learning_rate,
            },
            on_epoch=on_epoch,
            checkpoint=checkpoint,
        )
    checkpoint.parts["renewal"] = renewal
    if by_firing:
        # Bits may have to be taken away again.
        checkpoint.parts["signal"] = signal

    def settle() -> None:
        # Nothing can be asked for below the cheapest plan; where firing makes that too dear, the budget is not met.
        smallest = rules.smallest(model)
        for index, limit in enumerate(limits):
            if budgets[index] in by_firing:
                least = model.cost(limit.metric, smallest, quantized.activity)
                limits[index] = replace(limit, limit=max(limit.limit, least))
        quantized.fix(
            project(
                quantized.layer_plans,
                model,
                limits,
                rules,
                loss=signal.curvature,
                prices={"weight": knobs.weight_price, "spike": knobs.spike_price, "time": knobs.time_price},
                activity=quantized.activity,
            )
        )

    for tuning in range(max(1, checkpoint.saved_phase), 2 + (CORRECTIONS if by_firing else 0)):
        if tuning == checkpoint.saved_phase:
            allotted.restore_bits(checkpoint.saved_part("allotted"))
        else:
            if tuning > 1:
                _, quantized.activity = evaluate_with_activity(quantized, splits.validation, training.batch_size)
                if all(budget.met_by(model, quantized.layer_plans, quantized.activity) for budget in by_firing):
                    break
                for index, limit in enumerate(limits):
                    if budgets[index] in by_firing:
                        limits[index] = replace(limit, limit=limit.limit * CORRECTION)
            settle()
        epochs = training.epochs - search_epochs
        if tuning > 1:
            epochs = max(1, epochs // 2)
        if epochs > 0:
            train(
                quantized,
                splits,
                training,
                epochs=epochs,
                seed=seed + tuning,
                phase="fine-tune",
                on_epoch=on_epoch,
                checkpoint=checkpoint,
                number=tuning,
            )
    return quantized


@dataclass
class _Allotted:
    """What the method has decided so far, for a checkpoint."""

    network: QuantizedNetwork
    limits: list[Budget]

    def state_dict(self) -> dict[str, Any]:
        """The bits, and what is asked for."""
        activity = self.network.activity
        return {
            "plans": {name: plan.model_dump() for name, plan in self.network.layer_plans.items()},
            "limits": [limit.limit for limit in self.limits],
            "activity": None if activity is None else {name: dict(found) for name, found in vars(activity).items()},
            "changes": self.network.changes,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with that, but for the bits: while they are searched they are the network's own state."""
        self.limits[:] = [replace(own, limit=limit) for own, limit in zip(self.limits, state["limits"], strict=True)]
        self.network.activity = None if state["activity"] is None else Activity(**state["activity"])
        self.network.changes = state["changes"]

    def restore_bits(self, state: dict[str, Any]) -> None:
        """Fix the bits, which has to be done before the rest of a fixed network's state is taken."""
        self.network.fix({name: LayerPlan.model_validate(plan) for name, plan in state["plans"].items()})


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
