"""What makes an allocation meet its budget while it trains: the penalties and the controller of their weight."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from bitsearch.cost import AllowedBits, Budget, CostModel, SpikeStatistics
from bitsearch.layers.network import Allocation
from bitsearch.plan import LayerPlan


class Allocated(Protocol):
    """What is drawn to its budgets: :class:`bitsearch.layers.network.QuantizedNetwork`."""

    model: CostModel
    rules: AllowedBits
    activity: SpikeStatistics | None

    @property
    def allocation(self) -> "Allocation":
        """The bits, with gradients to the latents."""

    @property
    def layer_plans(self) -> dict[str, LayerPlan]:
        """The rounded bits."""


class LagrangeMultiplier:
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


def target_limit(
    budget: Budget, model: CostModel, smallest: Mapping[str, LayerPlan], share: float, activity: SpikeStatistics | None
) -> float:
    """What a method aims at: a share of a budget's limit, but nothing below the cheapest plan's cost."""
    return min(budget.limit, max(budget.limit * share, model.cost(budget.metric, smallest, activity)))


def tightened_limit(start: float, limit: float, progress: float) -> float:
    """start^(1 − p)·limit^p: a limit after a share p of its way from ``start``; itself if it is above the start."""
    return limit if start < limit else start ** (1 - progress) * limit**progress


def scale_gradients(allocation: Allocation, prices: Prices) -> Allocation:
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
    activity: SpikeStatistics | None = None,
) -> Tensor:
    """log(cost/limit) of the budget's own metric, a scalar; its weight is the controller's Λ."""
    cost = model.cost_tensor(metric, *scale_gradients(allocation, prices), activity)
    return (cost / limit).log()


def means_penalty(
    model: CostModel, targets: tuple[float, float, float], allocation: Allocation, prices: Prices
) -> Tensor:
    """λ_w·|W̄ − W*| + λ_s·|S̄ − S*| + λ_T·|T̄ − T*|, a scalar: the published form (Yao et al. 2025)."""
    means = model.mean_tensors(*allocation)
    total = means[0].new_zeros(())
    for mean, target, price in zip(means, targets, prices, strict=True):
        total = total + price * (mean - target).abs()
    return total


class BudgetPenalty:
    r"""What is added to the loss so that a network's bits come to meet their budgets.

    .. math::
        \sum_b \Lambda_b \cdot \log \frac{cost_b}{limit_b(p)}, \qquad
        limit_b(p) = start_b^{1-p} \cdot limit_b^{\,p}, \quad p = \min(1, 2 \cdot step / steps)

    The limits tighten over the first half of the search, so that the task has a say on the way. A limit above what the
    network costs at the start is there from the beginning: it pushes no bits up.

    Args:
        network: with learnable bits; what it costs now is where the limits start.
        budgets: the limits at the end.
        steps: training steps of the search, one call each.
        prices: regularizer weights of weight bits, spike bits and time steps.
        share: of every limit that is aimed at.
        regularizer: ``metric``, as above, or ``means``, the published form λ·|mean − target| (Yao et al. 2025).
    """

    def __init__(
        self,
        network: Allocated,
        budgets: Sequence[Budget],
        steps: int,
        *,
        prices: Prices = (1.0, 1.0, 1.0),
        share: float = 1.0,
        regularizer: Literal["metric", "means"] = "metric",
    ) -> None:
        self.network, self.budgets, self.steps = network, budgets, steps
        self.prices, self.regularizer = prices, regularizer
        self.controllers = [LagrangeMultiplier() for _ in budgets]
        model, plans, smallest = network.model, network.layer_plans, network.rules.smallest(network.model)
        self.limits = [target_limit(budget, model, smallest, share, network.activity) for budget in budgets]
        self.start_costs = [model.cost(budget.metric, plans, network.activity) for budget in budgets]
        # The published form needs a target per mean: each shrinks by the same factor, to at least one bit or step.
        shrink = min(1.0, *(limit / start for limit, start in zip(self.limits, self.start_costs, strict=True)))
        weights, spikes, time_steps = (max(1.0, mean * shrink ** (1 / 3)) for mean in model.means(plans))
        self.targets = (weights, spikes, time_steps)
        self.step = 0

    def __call__(self) -> Tensor:
        """The penalty of the next step, a scalar; Λ moves toward what meets each budget."""
        self.step += 1
        allocation, model, activity = self.network.allocation, self.network.model, self.network.activity
        progress = min(1.0, 2 * self.step / self.steps)
        total = allocation[0].new_zeros(())
        for budget, controller, last, start in zip(
            self.budgets, self.controllers, self.limits, self.start_costs, strict=True
        ):
            limit = tightened_limit(start, last, progress)
            violation = metric_penalty(model, budget.metric, limit, allocation, self.prices, activity)
            controller.update(violation)
            total = total + controller.weight * violation
        if self.regularizer == "means":
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
