"""The budgets' penalty as a part of the search phase, and when step renewal stops on the way to them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from bitsearch.allocation.budget_control import BudgetPenalty
from bitsearch.allocation_settings import Allocation
from bitsearch.cost import Budget
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.train.loop import Callback

RENEWAL_STOPS_AT = 0.24
"""Renewal stops once (mean bits − target) is below this share of its starting value (Yao et al. 2025)."""


class BudgetPenaltyCallback(Callback):
    """Adds the budgets' penalty to the loss, and records what the bits cost."""

    def __init__(self, network: QuantizedNetwork, budgets: Sequence[Budget], settings: Allocation, steps: int) -> None:
        self.network = network
        self.budget_penalty = BudgetPenalty(
            network,
            budgets,
            steps,
            prices=(settings.weight_price, settings.spike_price, settings.time_price),
            share=settings.budget_share,
            regularizer=settings.regularizer,
        )

    @property
    def aims(self) -> list[Budget]:
        """The budgets at the limits that are aimed at, to project onto."""
        limits = zip(self.budget_penalty.budgets, self.budget_penalty.limits, strict=True)
        return [replace(budget, limit=limit) for budget, limit in limits]

    def penalty(self) -> Tensor:
        """That of the next step."""
        return self.budget_penalty()

    def state_dict(self) -> dict[str, Any]:
        """That of the penalty."""
        return self.budget_penalty.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.budget_penalty.load_state_dict(state)

    def after_epoch(self, epoch: int, loss: float) -> dict[str, float]:
        """Costs, mean bits, the penalties' largest weight; bit changes and step renewals since the start."""
        plans, model = self.network.layer_plans, self.network.model
        weights, spikes, time_steps = model.means(plans)
        # Every metric: the report shows that of the front's axis, which may have no budget.
        return model.costs(plans, self.network.activity) | {
            "mean_weight_bits": weights,
            "mean_spike_bits": spikes,
            "mean_time_steps": time_steps,
            "penalty_weight": max(float(controller.weight) for controller in self.budget_penalty.controllers),
            "changes": float(self.network.changes),
            "renewals": float(sum(layer.renewals for layer in self.network.layers.values())),
        }


class Renewal(Callback):
    """Switches step renewal off, separately for weights and spikes, once the means are near their targets."""

    def __init__(self, network: QuantizedNetwork, targets: Sequence[float], settings: Allocation) -> None:
        self.network, self.targets, self.settings = network, targets[:2], settings
        self.starts = network.model.means(network.layer_plans)[:2]
        self._set(weights=settings.renewal.enabled, spikes=settings.renewal.enabled)

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

    def after_epoch(self, epoch: int, loss: float) -> dict[str, float]:
        """Stop where the mean has come close enough."""
        if epoch >= self.settings.renewal.epochs:
            near = [
                mean - target < RENEWAL_STOPS_AT * (start - target)
                for mean, target, start in zip(
                    self.network.model.means(self.network.layer_plans)[:2], self.targets, self.starts, strict=True
                )
            ]
            self._set(weights=False if near[0] else None, spikes=False if near[1] else None)
        return {}
