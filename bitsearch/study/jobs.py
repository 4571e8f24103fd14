"""What all processes of a run do together: train, allocate, measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from bitsearch.allocation.methods import METHODS
from bitsearch.allocation.methods.activity import ActivityEstimate
from bitsearch.allocation.methods.base import AllocationProblem
from bitsearch.allocation_settings import Allocation
from bitsearch.cost import Budget, SpikeStatistics
from bitsearch.data import batches
from bitsearch.launch import launched_world_size
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.study.processes import ProcessGroup
from bitsearch.study.warm_start import start_network
from bitsearch.train.fine_tune import train_at_plan
from bitsearch.train.input_signs import InputSigns
from bitsearch.train.loop import train
from bitsearch.train.session import TrainingSession
from bitsearch.train.task import Task


@dataclass(frozen=True)
class FullPrecision:
    """What the float network's training showed."""

    score: float
    """On the validation split."""
    signed_input: bool | None
    """Whether an input was below zero, of data that are first read while it is trained; None of others."""


@dataclass(frozen=True)
class TrainFullPrecision:
    """Train a float network; 0 epochs leave it as it is, with the weights of the user's file."""

    def __call__(self, processes: ProcessGroup, session: TrainingSession) -> FullPrecision:
        """This process's part."""
        task = processes.task
        processes.network = task.fresh_network()
        epochs = session.settings.full_precision_epochs
        signs = InputSigns() if task.signed_input is None else None
        callbacks = [] if signs is None else [signs]
        seed = processes.seed
        if epochs:
            train(
                processes.network,
                session,
                epochs=epochs,
                seed=seed,
                phase="full precision",
                callbacks=callbacks,
                patience=session.settings.early_stopping,
            )
        elif signs is not None:
            share = (session.fabric_on(task.device).global_rank, launched_world_size())
            for inputs, _ in batches(session.splits.train, session.settings.batch_size, share=share):
                signs.before_batch(inputs)
        signed = None if signs is None else signs.signed()
        _read(task, processes.network, signed)
        return FullPrecision(session.score(processes.network), signed)


@dataclass(frozen=True)
class LoadWeights:
    """Make the float network from weights that a run had already."""

    weights: dict[str, Tensor]
    signed_input: bool | None
    """As :attr:`FullPrecision.signed_input`."""

    def __call__(self, processes: ProcessGroup, session: TrainingSession) -> None:
        """This process's part."""
        processes.network = processes.task.fresh_network()
        processes.network.load_state_dict(self.weights)
        _read(processes.task, processes.network, self.signed_input)


def _read(task: Task, network: nn.Module, signed_input: bool | None) -> None:
    """What a network's costs and conversion take from its training."""
    task.model.read_decays(network)
    if signed_input:
        task.model.sign_inputs()


@dataclass(frozen=True)
class MeasureInitialActivity:
    """Count the spikes that uniform plans are chosen by; None where neither a budget nor the front's axis asks."""

    budgets: tuple[Budget, ...]

    def __call__(self, processes: ProcessGroup, session: TrainingSession) -> SpikeStatistics | None:
        """This process's part."""
        return ActivityEstimate(
            allocation_problem(processes, session, processes.task.space.allocation, self.budgets)
        ).from_start()


@dataclass(frozen=True)
class Trained:
    """A trial's network and what was measured on the validation split."""

    network: QuantizedNetwork
    score: float
    activity: SpikeStatistics
    seconds: float
    """Of training, until it was ready."""


@dataclass(frozen=True)
class TrainUniform:
    """Train one uniform plan as it is: where firing makes it too dear, the method ``uniform`` would take bits away."""

    bits: UniformBits

    def __call__(self, processes: ProcessGroup, session: TrainingSession) -> Trained:
        """This process's part."""
        settings = processes.task.space.allocation
        problem = allocation_problem(processes, session, settings, processes.budgets)
        plan = problem.plan(self.bits)
        quantized = problem.quantized(plan)
        epochs = session.settings.epochs
        train_at_plan(quantized, plan, session, settings, epochs=epochs, seed=processes.seed, phase="uniform")
        return _measured(session, quantized, session.seconds)


@dataclass(frozen=True)
class TrainPlan:
    """Train a plan with another seed, as long as a uniform one."""

    layers: Mapping[str, LayerPlan]
    seed: int
    """Of the batches' order."""

    def __call__(self, processes: ProcessGroup, session: TrainingSession) -> Trained:
        """This process's part."""
        settings = processes.task.space.allocation
        quantized = allocation_problem(processes, session, settings, processes.budgets).quantized(self.layers)
        epochs = session.settings.epochs
        train_at_plan(quantized, self.layers, session, settings, epochs=epochs, seed=self.seed, phase="confirm")
        return _measured(session, quantized, session.seconds)


@dataclass(frozen=True)
class Start:
    """The network that another trial left."""

    trial: int
    state: dict[str, Tensor]
    """Of its quantized network."""


@dataclass(frozen=True)
class Allocate:
    """Find one allocation by the method that the settings name; the last network meets every budget."""

    settings: Allocation
    attempt: int
    """As :attr:`bitsearch.allocation.methods.base.AllocationProblem.attempt`."""
    budgets: tuple[Budget, ...]
    """This trial's; its limit on the front's axis may be another than the run's."""
    epochs: int
    """Of the trial."""
    start: Start | None = None
    """What it goes on from; full precision by default."""

    def __call__(self, processes: ProcessGroup, session: TrainingSession) -> list[Trained]:
        """This process's part."""
        session = replace(session, settings=session.settings.model_copy(update={"epochs": self.epochs}))
        problem = allocation_problem(processes, session, self.settings, self.budgets, self.attempt)
        if self.start is not None:
            problem = replace(problem, network=start_network(processes.network, self.start.state))
        # All are trained before any is measured, which is no part of the training.
        ready = [(network, session.seconds) for network in METHODS[self.settings.method](problem)]
        return [_measured(session, network, seconds) for network, seconds in ready]


def allocation_problem(
    processes: ProcessGroup,
    session: TrainingSession,
    settings: Allocation,
    budgets: Sequence[Budget],
    attempt: int = 0,
) -> AllocationProblem:
    """What is to be allocated, with the run's full-precision network."""
    task, seed = processes.task, processes.seed
    # The outer loop may vary how many step sizes there are.
    model = task.rules.stepped(task.model, settings.quantizer.spike_granularity or task.model.target.spike_granularity)
    return AllocationProblem(
        processes.network, model, task.rules, session, task.space, settings, budgets, seed, attempt
    )


def _measured(session: TrainingSession, network: QuantizedNetwork, seconds: float) -> Trained:
    score, activity = session.measure(network)
    return Trained(network, score, activity, seconds)
