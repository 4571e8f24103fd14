"""Any number of labels a sample: a logit each, ``[N, labels]``."""

from torch import Tensor

from bitsearch.data.targets import Targets
from bitsearch.errors import InputError
from bitsearch.score import Score
from bitsearch.task_settings import TaskSettings
from bitsearch.train.predict import OutputForm, describe_output
from bitsearch.train.tasks.losses import BinaryCrossEntropy
from bitsearch.train.tasks.task import LearningTask, Pair


class MultiLabel(LearningTask):
    """Binary cross-entropy; the share of labels that are right, or another metric of torchmetrics."""

    targets = Targets("flags")
    losses = {"binary_cross_entropy": lambda settings: BinaryCrossEntropy()}
    metrics = {
        "accuracy": ("MultilabelAccuracy", Score(name="label accuracy"), {"average": "micro"}),
        "f1": ("MultilabelF1Score", Score(name="F1"), {"average": "micro"}),
    }

    @classmethod
    def output_form(cls, settings: TaskSettings, target_axes: int) -> OutputForm:
        """As the base class."""
        return OutputForm(settings.output, description="logits [N, labels] or [T, N, labels]")

    def ready(self, outputs: Tensor, targets: Tensor) -> Pair:
        """Probabilities, and whole numbers."""
        return outputs.sigmoid(), targets.long()

    def check_shape(self, outputs: Tensor, targets: Tensor, label: str) -> None:
        """As the base class."""
        if outputs.shape != targets.shape:
            raise InputError(
                f"{label} returns {describe_output(outputs)} for targets of shape {list(targets.shape)}; it must "
                f"return {self.form.description}"
            )
