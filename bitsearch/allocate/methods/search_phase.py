"""The search phase: bits move by gradient, pulled down by the budgets and held up by the task, while weights train."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from bitsearch.allocate.methods.base import AllocationProblem
from bitsearch.allocate.methods.budget_penalty import BudgetPenaltyCallback, Renewal
from bitsearch.allocate.signals.fisher_loss import FisherLossModel
from bitsearch.allocate.signals.latent_gradient import LatentGradientCallback
from bitsearch.cost import Budget
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.train.evaluate import measure_activity
from bitsearch.train.loop import Callback, train


def search(
    quantized: QuantizedNetwork, problem: AllocationProblem, epochs: int
) -> tuple[list[Budget], FisherLossModel]:
    """Run the search phase in place. Returns the limits to project onto, and the loss model.

    ``quantized`` has learnable bits and, where a budget depends on how often neurons fire, spike counts.
    """
    settings, splits, training = problem.settings, problem.splits, problem.space.training
    steps = epochs * math.ceil(len(splits.train) / training.batch_size)  # type: ignore[arg-type]
    pull = BudgetPenaltyCallback(quantized, problem.budgets, settings, steps)
    signal = LatentGradientCallback(quantized, settings, problem.seed, splits.batch_axis)
    meters: Sequence[Callback] = [SpikeCounter(quantized, settings.probe_every)] if problem.activity_budgets else []
    train(
        quantized,
        splits,
        training,
        epochs=epochs,
        seed=problem.seed,
        phase="search",
        anneal=False,
        callbacks=[*meters, pull, Renewal(quantized, pull.budget_penalty.targets, settings), signal],
        latent_rates={
            "bits_learning_rate": settings.bits_learning_rate,
            "time_learning_rate": settings.time_learning_rate,
        },
        on_epoch=problem.on_epoch,
        fabric=problem.fabric,
        checkpoints=problem.checkpoints,
    )
    limits = pull.budget_penalty.limits
    aims = [replace(budget, limit=limit) for budget, limit in zip(problem.budgets, limits, strict=True)]
    return aims, signal.curvature


class SpikeCounter(Callback):
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
