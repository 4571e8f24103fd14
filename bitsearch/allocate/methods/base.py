"""What an allocation method is given, and what it gives back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lightning_fabric import Fabric
from torch import nn

from bitsearch.cost import AllowedBits, Budget, CostModel
from bitsearch.data import Splits
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.space import Allocation, SearchSpace
from bitsearch.train.loop import OnEpoch
from bitsearch.train.state import Checkpoints


@dataclass(frozen=True)
class AllocationProblem:
    """One allocation to find: the same for every method."""

    network: nn.Module
    """Trained in full precision, on its device; methods leave it as it is."""
    model: CostModel
    rules: AllowedBits
    splits: Splits
    space: SearchSpace
    settings: Allocation
    budgets: Sequence[Budget]
    """Feasible ones; all are to be met."""
    seed: int
    """Of batches and of what is sampled."""
    attempt: int = 0
    """Counts the attempts of a method that has a choice of its own: a random plan, the next uniform one."""
    on_epoch: OnEpoch | None = None
    fabric: Fabric | None = None
    """As for :func:`bitsearch.train.loop.train`; all of its processes allocate together."""
    checkpoints: Checkpoints | None = None
    """Where the method was interrupted: done again, it goes on after its last whole epoch."""

    @property
    def activity_budgets(self) -> list[Budget]:
        """The budgets that depend on how often neurons fire."""
        return [budget for budget in self.budgets if self.model.needs_activity(budget.metric)]

    def plan(self, bits: UniformBits) -> dict[str, LayerPlan]:
        """On every layer, what it may get that is nearest to ``bits``."""
        settings = self.settings
        return self.rules.nearest(self.model, bits, granularity=settings.quantizer.granularity, decay=settings.decay)


class Method(Protocol):
    """Yields trained networks whose bits are fixed.

    The last one meets every budget exactly, with bits that the rules allow; those before it met looser ones on the way.
    A budget that depends on how often neurons fire is met as
    :func:`bitsearch.allocate.methods.finish.project_and_fine_tune` says.

    Raises:
        InputError: the method cannot meet the budgets, though another could.
    """

    def __call__(self, problem: AllocationProblem) -> Iterator[QuantizedNetwork]:
        """The networks, in the order in which they are ready."""
