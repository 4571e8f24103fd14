"""How often neurons fire, as budgets on it are judged on the way to a plan.

It depends on the bits and on the weights, and nobody can know before training how often neurons will fire after it. So
it is counted anew at three kinds of moment: before anything is trained at few bits, every few batches while bits move,
and on the validation split wherever a plan is decided on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.cost import SpikeStatistics
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.network_inputs import Inputs
from bitsearch.train.evaluate import measure_activity
from bitsearch.train.loop import Callback


@dataclass(frozen=True)
class ActivityEstimate:
    """The spike counts that a problem's budgets are judged by; nothing is counted where none of them asks.

    All processes of the session count together.
    """

    problem: AllocationProblem

    def from_start(self) -> SpikeStatistics | None:
        """Where every search starts, with the weights of full precision; None where no budget asks.

        Methods that choose a plan in one step have no other spike counts.
        """
        if not self.problem.activity_budgets:
            return None
        return self.problem.session.measure(self.problem.quantized(self.problem.plan(self.problem.settings.start)))[1]

    def while_bits_move(self, quantized: QuantizedNetwork) -> list[Callback]:
        """Parts of a training that keep the network's counts up to date."""
        return [SpikeCounter(quantized, self.problem.settings.probe_every)] if self.problem.activity_budgets else []

    def at_plan(self, quantized: QuantizedNetwork) -> None:
        """Give the network its counts on the validation split, with the bits and weights that it has now."""
        if self.problem.activity_budgets:
            _, quantized.activity = self.problem.session.measure(quantized)


class SpikeCounter(Callback):
    """Counts spikes now and then, for budgets that depend on how often neurons fire."""

    def __init__(self, network: QuantizedNetwork, every: int) -> None:
        self.network, self.every, self.batch = network, every, 0

    def before_batch(self, *parts: Inputs, targets: Sequence[Tensor] = ()) -> None:
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
