"""What networks are trained for, one file a task: the only thing that knows loss, score and output.

Budgets, plans, verdicts and pages speak of a task's score, its unit and its direction.
"""

from dataclasses import replace

from bitsearch.data.targets import Targets
from bitsearch.task_settings import TaskName, TaskSettings
from bitsearch.train.predict import OutputForm
from bitsearch.train.tasks.classification import CLASSIFICATION, Classification
from bitsearch.train.tasks.dense import Segmentation
from bitsearch.train.tasks.multi_label import MultiLabel
from bitsearch.train.tasks.own import Own
from bitsearch.train.tasks.regression import Regression
from bitsearch.train.tasks.sequence import Sequence
from bitsearch.train.tasks.task import LearningTask

TASKS: dict[TaskName, type[LearningTask]] = {
    "classification": Classification,
    "multi_label": MultiLabel,
    "segmentation": Segmentation,
    "sequence": Sequence,
    "regression": Regression,
    "own": Own,
}


def targets_of(settings: TaskSettings) -> Targets:
    """What the data's targets are to be."""
    if settings.loss == "soft_cross_entropy":
        return Targets("values")
    return replace(TASKS[settings.name].targets, ignored=settings.ignored_label)


def make_learning_task(settings: TaskSettings, classes: int, target_axes: int = 0) -> LearningTask:
    """The task that a search space names.

    Args:
        settings: ``[task]``.
        classes: or labels, or values, that the network gives (at a position).
        target_axes: of one sample's target.

    Raises:
        InputError: a loss or a metric that is not there, or does not fit.
    """
    return TASKS[settings.name](settings, classes, target_axes)


def output_form(settings: TaskSettings, target_axes: int = 0) -> OutputForm:
    """What a network is to return for the task that a search space names, for targets with so many axes a sample."""
    return TASKS[settings.name].output_form(settings, target_axes)


__all__ = ["CLASSIFICATION", "TASKS", "LearningTask", "make_learning_task", "output_form", "targets_of"]
