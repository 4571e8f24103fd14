"""One label a sample: logits ``[N, classes]``, or firing rates."""

from torch import Tensor

from bitsearch.data.targets import Targets
from bitsearch.errors import InputError
from bitsearch.score import Score
from bitsearch.task_settings import TaskSettings
from bitsearch.train.predict import LOGITS, OutputForm, describe_output
from bitsearch.train.tasks.losses import CrossEntropy, EveryStep, Loss, RateError
from bitsearch.train.tasks.scores import Scoring, TopAccuracy
from bitsearch.train.tasks.task import LearningTask


def _cross_entropy(settings: TaskSettings) -> Loss:
    return CrossEntropy(settings.label_smoothing, settings.class_weights, settings.ignored_label)


class Classification(LearningTask):
    """Cross-entropy and accuracy, by default.

    ``mse_rate`` is the squared error of firing rates, ``tet`` cross-entropy at every time step, ``soft_cross_entropy``
    takes shares of the classes as targets.
    """

    losses = {
        "cross_entropy": _cross_entropy,
        "soft_cross_entropy": _cross_entropy,
        "mse_rate": lambda settings: RateError(),
        "tet": lambda settings: EveryStep(_cross_entropy(settings)),
    }

    def __init__(self, settings: TaskSettings, classes: int, target_axes: int = 0) -> None:
        if settings.class_weights is not None and len(settings.class_weights) != classes:
            raise InputError(f"task.class_weights has {len(settings.class_weights)} numbers for {classes} classes")
        if settings.loss == "soft_cross_entropy":
            self.targets = Targets("values")
        super().__init__(settings, classes, target_axes)

    @classmethod
    def output_form(cls, settings: TaskSettings, target_axes: int) -> OutputForm:
        """As the base class."""
        if settings.loss == "tet":
            return OutputForm(settings.output, every_step=True, description="logits [T, N, classes]")
        return LOGITS if settings.output is None else OutputForm(settings.output)

    def _scoring(self) -> Scoring:
        if self.settings.metric in (None, "accuracy"):
            self._check_direction("accuracy", "up")
            return TopAccuracy(self.settings.top_k)
        return super()._scoring()

    metrics = {"accuracy": ("MulticlassAccuracy", Score(), {"average": "micro"})}

    def check_shape(self, outputs: Tensor, targets: Tensor, label: str) -> None:
        """As the base class."""
        if (len(outputs), outputs.shape[-1]) != (len(targets), self.classes):
            raise InputError(
                f"{label} returns {describe_output(outputs)} for {len(targets)} samples of {self.classes} classes; it "
                f"must return {LOGITS.description}"
            )


CLASSIFICATION = Classification(TaskSettings(), 0)
