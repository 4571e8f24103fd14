"""What an allocation method is given, and what it gives back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from bitsearch.allocation_settings import Allocation
from bitsearch.cost import AllowedBits, Budget, CostModel
from bitsearch.layers import convert
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.space import SearchSpace
from bitsearch.train.session import TrainingSession


@dataclass(frozen=True)
class AllocationProblem:
    """One allocation to find: the same for every method."""

    network: nn.Module
    """Trained in full precision, on its device; methods leave it as it is."""
    model: CostModel
    rules: AllowedBits
    session: TrainingSession
    """Its processes allocate together; done again where it was interrupted, a method goes on after its last epoch."""
    space: SearchSpace
    settings: Allocation
    budgets: Sequence[Budget]
    """Feasible ones; all are to be met."""
    seed: int
    """Of batches and of what is sampled."""
    attempt: int = 0
    """Counts the attempts of a method that has a choice of its own: a random plan, the next uniform one."""

    @property
    def activity_budgets(self) -> list[Budget]:
        """The budgets that depend on how often neurons fire."""
        return [budget for budget in self.budgets if self.model.needs_activity(budget.metric)]

    def plan(self, bits: UniformBits) -> dict[str, LayerPlan]:
        """On every layer, what it may get that is nearest to ``bits``."""
        return self.rules.nearest(self.model, bits, **self.settings.quantizer.of_layers, decay=self.settings.decay)

    def quantized(self, plan: Mapping[str, LayerPlan]) -> QuantizedNetwork:
        """A copy of the network with a plan's bits, to be trained at them."""
        settings = {layer.name: layer.neuron for layer in self.model.layers}
        # A layer of one bit starts from the network's own neuron, though the plan may come from one that had more.
        plan = {
            name: layer.model_copy(update={"neuron": layer.neuron and settings[name]}) for name, layer in plan.items()
        }
        quantized = QuantizedNetwork(convert(self.network, plan), self.model, self.rules, self.space.baseline)
        quantized.release_spikes()
        return quantized


class Method(Protocol):
    """Yields trained networks whose bits are fixed.

    The last one meets every budget exactly, with bits that the rules allow; those before it met looser ones on the way.
    A budget that depends on how often neurons fire is met as
    :func:`bitsearch.allocation.methods.finish.project_and_fine_tune` says.

    Raises:
        InputError: the method cannot meet the budgets, though another could.
    """

    def __call__(self, problem: AllocationProblem) -> Iterator[QuantizedNetwork]:
        """The networks, in the order in which they are ready."""


def make_learnable_copy(
    network: nn.Module, model: CostModel, rules: AllowedBits, space: SearchSpace, settings: Allocation
) -> QuantizedNetwork:
    """A quantized copy of ``network`` whose latents start at ``settings.start``."""
    quantized = QuantizedNetwork.learnable(
        network,
        model,
        rules=rules,
        start=settings.start,
        baseline=space.baseline,
        **settings.quantizer.of_layers,
        decay=settings.decay,
    )
    quantized.release_spikes()
    return quantized
