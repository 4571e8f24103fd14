"""Distillation (Hinton et al. 2015): a quantized network learns what the full-precision one makes of its inputs."""

import copy

import torch
from torch import Tensor, nn

from bitsearch.data.targets import counted_rows
from bitsearch.errors import InputError
from bitsearch.frameworks.eval_mode import eval_mode
from bitsearch.frameworks.reparametrized import detach_computed_weights
from bitsearch.network_inputs import Inputs
from bitsearch.quant.uniform import working_precision
from bitsearch.train.loop import Callback
from bitsearch.train.predict import predict
from bitsearch.train.session import TrainingSession
from bitsearch.train.tasks import CLASSIFICATION, LearningTask
from bitsearch.training import Distillation


class DistillationLoss(Callback):
    """Replaces a share of the task's loss by the divergence from a teacher's outputs.

    (1 − w) · loss + w · τ² · Σ D(teacher / τ, student / τ), where τ² keeps the gradients as long as those of the task's
    loss, whatever the temperature. D is the loss's own: of cross-entropy KL(softmax(teacher / τ) ‖ softmax(student /
    τ)), of squared error the mean squared difference, to which τ makes no difference.

    Args:
        teacher: gives outputs for the same inputs; it is copied.
        settings: w and τ.
        task: that both are trained for.
    """

    def __init__(self, teacher: nn.Module, settings: Distillation, task: LearningTask = CLASSIFICATION) -> None:
        detach_computed_weights(teacher)
        self.teacher, self.settings, self.task = copy.deepcopy(teacher), settings, task

    def part_loss(self, loss: Tensor, inputs: Inputs, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of a part of a batch; a sample that only fills a process's share counts in neither term."""
        with torch.no_grad(), eval_mode(self.teacher):
            expected = working_precision(predict(self.teacher, inputs, self.task.form))
        temperature, weight = self.settings.temperature, self.settings.weight
        present = counted_rows(labels)
        expected, outputs = expected[present] / temperature, working_precision(outputs)[present] / temperature
        return (1 - weight) * loss + weight * temperature**2 * self.task.loss.divergence(expected, outputs)


def distillation(session: TrainingSession) -> list[Callback]:
    """What fine-tuning has of it, as the session's settings say.

    Raises:
        InputError: they ask for it, and the session has no teacher.
    """
    settings = session.settings.distillation
    if settings is None or settings.weight == 0:
        return []
    if session.teacher is None:
        raise InputError(
            "training.distillation learns from the full-precision network of a run, and there is none here; give a "
            "plan inside its run folder, or set training.distillation.weight to 0"
        )
    return [DistillationLoss(session.teacher, settings, session.task)]
