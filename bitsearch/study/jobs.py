"""What all processes of a run do together: train, allocate, measure."""

from dataclasses import dataclass

from torch import Tensor

from bitsearch.allocate.methods import METHODS
from bitsearch.allocate.methods.adaptive import make_learnable_copy
from bitsearch.allocate.methods.base import AllocationProblem
from bitsearch.allocate.methods.uniform import train_fixed
from bitsearch.cost import SpikeStatistics
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import UniformBits
from bitsearch.space import Allocation
from bitsearch.study.processes import ProcessGroup
from bitsearch.train.checkpoint import Checkpoint
from bitsearch.train.evaluate import evaluate, evaluate_with_activity
from bitsearch.train.loop import OnEpoch, train


@dataclass(frozen=True)
class TrainFullPrecision:
    """Train a float network; its validation accuracy."""

    def __call__(self, processes: ProcessGroup, on_epoch: OnEpoch, checkpoint: Checkpoint) -> float:
        """This process's part."""
        splits, training = processes.task.splits, processes.task.space.training
        processes.network = processes.task.fresh_network(processes.seed)
        train(
            processes.network,
            splits,
            training,
            epochs=training.full_precision_epochs,
            seed=processes.seed,
            phase="full precision",
            on_epoch=on_epoch,
            fabric=processes.fabric,
            checkpoints=checkpoint,
        )
        return evaluate(processes.network, splits.validation, training.at_once, shared=True)


@dataclass(frozen=True)
class LoadWeights:
    """Make the float network from weights that a run had already."""

    weights: dict[str, Tensor]

    def __call__(self, processes: ProcessGroup, on_epoch: OnEpoch, checkpoint: Checkpoint) -> None:
        """This process's part."""
        processes.network = processes.task.fresh_network(processes.seed)
        processes.network.load_state_dict(self.weights)


@dataclass(frozen=True)
class MeasureInitialActivity:
    """Count spikes before anything is trained at few bits, at the bits where every search starts."""

    def __call__(self, processes: ProcessGroup, on_epoch: OnEpoch, checkpoint: Checkpoint) -> SpikeStatistics:
        """This process's part."""
        task = processes.task
        space = task.space
        start = make_learnable_copy(processes.network, task.model, task.rules, space, space.allocation)
        return evaluate_with_activity(start, task.splits.validation, space.training.at_once, shared=True)[1]


@dataclass(frozen=True)
class Trained:
    """A trial's network and what was measured on the validation split."""

    network: QuantizedNetwork
    accuracy: float
    activity: SpikeStatistics
    seconds: float
    """Of training, until it was ready."""


@dataclass(frozen=True)
class TrainUniform:
    """Train one uniform plan."""

    bits: UniformBits

    def __call__(self, processes: ProcessGroup, on_epoch: OnEpoch, checkpoint: Checkpoint) -> Trained:
        """This process's part."""
        task, settings = processes.task, processes.task.space.allocation
        model, rules = task.model, task.rules
        plan = rules.nearest(model, self.bits, granularity=settings.quantizer.granularity, decay=settings.decay)
        quantized = train_fixed(
            processes.network,
            model,
            rules,
            plan,
            task.splits,
            task.space,
            seed=processes.seed,
            on_epoch=on_epoch,
            fabric=processes.fabric,
            checkpoints=checkpoint,
        )
        return _measured(processes, quantized, checkpoint.seconds)


@dataclass(frozen=True)
class Allocate:
    """Find one allocation by the method that the settings name; the last network meets every budget."""

    settings: Allocation
    attempt: int
    """As :attr:`bitsearch.allocate.methods.base.AllocationProblem.attempt`."""

    def __call__(self, processes: ProcessGroup, on_epoch: OnEpoch, checkpoint: Checkpoint) -> list[Trained]:
        """This process's part."""
        task = processes.task
        problem = AllocationProblem(
            processes.network,
            task.model,
            task.rules,
            task.splits,
            task.space,
            self.settings,
            processes.budgets,
            seed=processes.seed,
            attempt=self.attempt,
            on_epoch=on_epoch,
            fabric=processes.fabric,
            checkpoints=checkpoint,
        )
        # All are trained before any is measured, which is no part of the training.
        ready = [(network, checkpoint.seconds) for network in METHODS[self.settings.method](problem)]
        return [_measured(processes, network, seconds) for network, seconds in ready]


def _measured(processes: ProcessGroup, network: QuantizedNetwork, seconds: float) -> Trained:
    task = processes.task
    at_once = task.space.training.at_once
    found = evaluate_with_activity(network, task.splits.validation, at_once, shared=True)
    return Trained(network, *found, seconds)
