"""What makes an allocation meet its budget while it trains: the penalties and the controller of their weight."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bitsearch.cost import Activity, Budget, CostModel
from bitsearch.plan import LayerPlan


class BudgetController:
    """An integral controller of a penalty's weight Λ, in the logarithm.

    Λ grows while the cost is above the budget and shrinks while it is below, so that the pull of the budget balances
    the task's resistance at the limit instead of drowning it.
    """

    def __init__(self, start: float = 1e-2, gain: float = 0.15) -> None:
        self.gain = gain
        # A tensor, so that no training step waits for a number to come back from the device.
        self.log_weight = torch.tensor(math.log(start))

    @property
    def weight(self) -> Tensor:
        """Λ, a scalar."""
        return self.log_weight.exp()

    def update(self, log_violation: Tensor) -> None:
        """Move Λ by log(cost/limit), a scalar, positive above the limit."""
        move = self.gain * log_violation.detach().clamp(-1, 1)
        self.log_weight = (self.log_weight.to(move.device) + move).clamp(-16, 8)

    def state_dict(self) -> dict[str, Any]:
        """Λ."""
        return {"log_weight": self.log_weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with that Λ."""
        self.log_weight = state["log_weight"]


Prices = tuple[float, float, float]
"""Regularizer weights of the weight bits, the spike bits and the time steps."""

Allocation = tuple[Tensor, Tensor, Tensor]
"""(weight bits, mean spike bits, time steps), each ``[L]``, rounded, with straight-through gradients."""


def aim(
    budget: Budget, model: CostModel, smallest: Mapping[str, LayerPlan], share: float, activity: Activity | None
) -> float:
    """What a method aims at: a share of a budget's limit, but nothing below the cheapest plan's cost."""
    return min(budget.limit, max(budget.limit * share, model.cost(budget.metric, smallest, activity)))


def priced(allocation: Allocation, prices: Prices) -> Allocation:
    """The same values, with each kind's gradient multiplied by its price."""
    weights, spikes, time_steps = (
        value * price + value.detach() * (1 - price) for value, price in zip(allocation, prices, strict=True)
    )
    return weights, spikes, time_steps


def metric_penalty(
    model: CostModel,
    metric: str,
    limit: float,
    allocation: Allocation,
    prices: Prices,
    activity: Activity | None = None,
) -> Tensor:
    """log(cost/limit) of the budget's own metric, a scalar; its weight is the controller's Λ."""
    cost = model.differentiable(metric, *priced(allocation, prices), activity)
    return (cost / limit).log()


def means_penalty(
    model: CostModel, targets: tuple[float, float, float], allocation: Allocation, prices: Prices
) -> Tensor:
    """λ_w·|W̄ − W*| + λ_s·|S̄ − S*| + λ_T·|T̄ − T*|, a scalar: the published form (Yao et al. 2025)."""
    means = model.differentiable_means(*allocation)
    total = means[0].new_zeros(())
    for mean, target, price in zip(means, targets, prices, strict=True):
        total = total + price * (mean - target).abs()
    return total
