"""What draws the bits to the budgets in a search phase, and when step renewal stops on the way there."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bitsearch.allocate.budget_control import BudgetController, aim, means_penalty, metric_penalty
from bitsearch.allocate.quantized_network import QuantizedNetwork
from bitsearch.allocate.trainer import Callback
from bitsearch.cost import Budget
from bitsearch.space import Allocation

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
