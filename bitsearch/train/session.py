"""What the trainings of one job have in common, handed on as one thing from the command to the loop."""

from dataclasses import dataclass, field

import torch
from lightning_fabric import Fabric
from torch import nn

from bitsearch.cost import SpikeStatistics
from bitsearch.data import Splits
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.train.epoch_record import OnEpoch
from bitsearch.train.evaluate import evaluate, evaluate_with_activity
from bitsearch.train.fabric import make_fabric
from bitsearch.train.state import Checkpoints
from bitsearch.train.tasks import CLASSIFICATION, LearningTask
from bitsearch.training import Training


@dataclass(frozen=True)
class TrainingSession:
    """On what data, with which settings, in which processes; who keeps the state, and who is told.

    By default this process trains alone, keeps nothing and tells nobody.
    """

    splits: Splits
    """``train`` is trained on; ``validation`` is what a network is measured on."""
    settings: Training = field(default_factory=Training)
    on_epoch: OnEpoch | None = None
    """Gets a record after every epoch, for which the validation score is measured."""
    checkpoints: Checkpoints | None = None
    """Keeps the state after every epoch, and brings back the last one before the first."""
    fabric: Fabric | None = None
    """Device, precision and processes, as :func:`bitsearch.train.fabric.make_fabric` makes them."""
    teacher: nn.Module | None = None
    """The network in full precision, for distillation; on the device of what is trained."""
    task: LearningTask = CLASSIFICATION
    """Loss and score."""

    def fabric_on(self, device: torch.device) -> Fabric:
        """The session's fabric; where it has none, one of this process alone."""
        return self.fabric or make_fabric(device, self.settings.precision)

    @property
    def seconds(self) -> float:
        """That its trainings have taken so far, as what keeps their state has counted; 0 where nothing does."""
        return 0.0 if self.checkpoints is None else self.checkpoints.seconds

    def score(self, network: nn.Module) -> float:
        """On the validation split; all processes call this, and get the same."""
        return evaluate(network, self.splits.validation, self.settings.at_once, shared=True, task=self.task)

    def measure(self, network: QuantizedNetwork) -> tuple[float, SpikeStatistics]:
        """(score, what spikes were counted) on the validation split; all processes call this, and get the same."""
        samples, at_once = self.splits.validation, self.settings.at_once
        return evaluate_with_activity(network, samples, at_once, shared=True, task=self.task)
