"""A label at every position: segmentation, logits ``[N, classes, H, W]``, and sequences, ``[N, classes, L]``."""

from torch import Tensor

from bitsearch.data.targets import Targets
from bitsearch.errors import InputError
from bitsearch.score import Score
from bitsearch.task_settings import TaskSettings
from bitsearch.train.predict import OutputForm, describe_output
from bitsearch.train.tasks.losses import CrossEntropy
from bitsearch.train.tasks.task import LearningTask, Pair


class Segmentation(LearningTask):
    """Cross-entropy per position, averaged over them; the mean over classes of intersection over union."""

    targets = Targets("classes")
    losses = {
        "cross_entropy": lambda settings: CrossEntropy(
            settings.label_smoothing, settings.class_weights, settings.ignored_label
        )
    }
    metrics = {
        "mean_iou": ("MulticlassJaccardIndex", Score(name="mean IoU"), {}),
        "accuracy": ("MulticlassAccuracy", Score(name="pixel accuracy"), {"average": "micro"}),
    }

    def __init__(self, settings: TaskSettings, classes: int, target_axes: int = 2) -> None:
        self.targets = Targets("classes", settings.ignored_label)
        if settings.class_weights is not None and len(settings.class_weights) != classes:
            raise InputError(f"task.class_weights has {len(settings.class_weights)} numbers for {classes} classes")
        super().__init__(settings, classes, target_axes)

    @classmethod
    def output_form(cls, settings: TaskSettings, target_axes: int) -> OutputForm:
        """As the base class."""
        return OutputForm(
            settings.output, axes=1 + target_axes, description="logits [N, classes, ...] or [T, N, classes, ...]"
        )

    def ready(self, outputs: Tensor, targets: Tensor) -> Pair:
        """What another process counts is ignored here."""
        return outputs, targets.masked_fill(targets == -100, self.settings.ignored_label)

    def check_shape(self, outputs: Tensor, targets: Tensor, label: str) -> None:
        """As the base class."""
        if outputs.shape != (len(targets), self.classes, *targets.shape[1:]):
            raise InputError(
                f"{label} returns {describe_output(outputs)} for targets of shape {list(targets.shape)} and "
                f"{self.classes} classes; it must return logits "
                f"{[len(targets), self.classes, *targets.shape[1:]]}, with or without a time axis before; a label that "
                f"stands for no class is task.ignored_label, now {self.settings.ignored_label}"
            )
