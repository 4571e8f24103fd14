"""Projection: the nearest plan that meets the budget exactly.

Bits are taken away where the predicted loss rises least per unit of cost saved, until the budget is met; then what is
left of the budget is spent where the loss falls most per unit of cost.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from bitsearch.cost import Budget, CostModel
from bitsearch.plan import LayerPlan
from bitsearch.space import Choices

Kind = str
"""``weight``, ``spike`` or ``time``: which of a layer's three numbers a move changes."""


class LossModel(Protocol):
    """Predicts what an allocation of one layer adds to the training loss."""

    def weight_loss(self, name: str, plan: LayerPlan) -> float:
        """Loss added by quantizing the layer's weights as ``plan`` says."""

    def spike_loss(self, name: str, plan: LayerPlan) -> float:
        """Loss added by quantizing the layer's input as ``plan`` says."""


class LevelCount:
    """The loss model where nothing is measured: error falls with the square of the number of levels."""

    def weight_loss(self, name: str, plan: LayerPlan) -> float:
        """4^(−weight bits)."""
        return 4.0**-plan.weight_bits

    def spike_loss(self, name: str, plan: LayerPlan) -> float:
        """(Σ_t 2^spike bits)^(−2): the steps' levels add up."""
        return float(sum(2**bits for bits in plan.spike_bits)) ** -2


def project(
    plan: Mapping[str, LayerPlan],
    model: CostModel,
    budget: Budget,
    choices: Choices,
    *,
    searched: Collection[str],
    loss: LossModel | None = None,
    prices: Mapping[Kind, float] | None = None,
    refill: bool = True,
) -> dict[str, LayerPlan]:
    """A plan near ``plan`` whose cost is at most the budget's limit.

    Args:
        plan: bits of every layer.
        model: costs.
        budget: the limit; feasible, as :meth:`Budget.check_feasible` checks.
        choices: bounds of the searched layers.
        searched: names of the layers that may change.
        loss: predicts the price of a move in accuracy; level counts by default.
        prices: regularizer weights of ``weight``, ``spike`` and ``time``; a dear kind is reduced first.
        refill: spend what is left of the budget.
    """
    loss = loss or LevelCount()
    weights = prices or {"weight": 1.0, "spike": 1.0, "time": 1.0}
    current = dict(plan)
    cost = model.cost(budget.metric, current)

    def best_move(direction: int) -> tuple[str, LayerPlan, float] | None:
        best, best_score = None, -math.inf
        for name in searched:
            for move in moves(current[name], choices, direction):
                new_cost = model.cost(budget.metric, current | {name: move.plan})
                saved = math.log(cost / new_cost) * weights[move.kind]
                if direction * saved >= 0 or (direction > 0 and new_cost > budget.limit):
                    continue
                change = loss_change(loss, name, current[name], move)
                # Down: least loss per cost saved. Up: most loss recovered per cost spent.
                score = -change / saved if direction < 0 else change / saved
                if score > best_score:
                    best, best_score = (name, move.plan, new_cost), score
        return best

    while cost > budget.limit:
        move = best_move(-1)
        assert move is not None, "a feasible budget is reached before every layer is at its minimum"
        name, current[name], cost = move
    while refill:
        move = best_move(+1)
        if move is None:
            break
        name, current[name], cost = move
    return current


@dataclass(frozen=True)
class Move:
    """A plan one unit away."""

    kind: Kind
    slot: int
    """Which latent the move stands for, in the order of :attr:`QuantizedLayer.latents`."""
    plan: LayerPlan


def moves(plan: LayerPlan, choices: Choices, direction: int) -> Iterator[Move]:
    """Every plan one unit of weight bits, of time steps, or of one step's spike bits away, within the choices."""
    weight_bits = plan.weight_bits + direction
    if weight_bits in choices.weight_bits:
        yield Move("weight", 0, plan.model_copy(update={"weight_bits": weight_bits}))
    time_steps = plan.time_steps + direction
    if time_steps in choices.time_steps:
        spike_bits = plan.spike_bits[:-1] if direction < 0 else (*plan.spike_bits, plan.spike_bits[-1])
        yield Move("time", 1, plan.model_copy(update={"time_steps": time_steps, "spike_bits": spike_bits}))
    for t, bits in enumerate(plan.spike_bits):
        if bits + direction in choices.spike_bits:
            changed = (*plan.spike_bits[:t], bits + direction, *plan.spike_bits[t + 1 :])
            yield Move("spike", 2 + t, plan.model_copy(update={"spike_bits": changed}))


def loss_change(loss: LossModel, name: str, plan: LayerPlan, move: Move) -> float:
    """Predicted loss after the move minus that before it."""
    predict = loss.weight_loss if move.kind == "weight" else loss.spike_loss
    return predict(name, move.plan) - predict(name, plan)
