"""Numbers: outputs of the targets' shape, ``[N, values]``, or ``[N]`` for one number a sample."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bitsearch.data.targets import Targets
from bitsearch.errors import InputError
from bitsearch.score import Score
from bitsearch.task_settings import TaskSettings
from bitsearch.train.predict import OutputForm, describe_output
from bitsearch.train.tasks.losses import AbsoluteError, Huber, SquaredError
from bitsearch.train.tasks.task import LearningTask, Pair


def _error(name: str) -> Score:
    return Score(name=name, share=False, direction="down")


class Regression(LearningTask):
    """Squared error and mean absolute error, by default."""

    targets = Targets("values")
    losses = {
        "mse": lambda settings: SquaredError(),
        "l1": lambda settings: AbsoluteError(),
        "huber": lambda settings: Huber(),
    }

    def __init__(self, settings: TaskSettings, classes: int, target_axes: int = 0) -> None:
        unit = {"unit": settings.unit}
        self.metrics: Mapping[str, tuple[str, Score, Mapping[str, Any]]] = {
            "mae": ("MeanAbsoluteError", _error("mean absolute error").model_copy(update=unit), {}),
            "mse": ("MeanSquaredError", _error("mean squared error"), {}),
            "r2": ("R2Score", Score(name="R²", share=False), {}),
        }
        super().__init__(settings, classes, target_axes)

    @classmethod
    def output_form(cls, settings: TaskSettings, target_axes: int) -> OutputForm:
        """As the base class."""
        return OutputForm(
            settings.output,
            axes=max(1, target_axes),
            single=target_axes == 0,
            description="values of the targets' shape, with or without a time axis before",
        )

    def ready(self, outputs: Tensor, targets: Tensor) -> Pair:
        """All values in a row."""
        return outputs.flatten().double(), targets.flatten().double()

    def check_shape(self, outputs: Tensor, targets: Tensor, label: str) -> None:
        """As the base class."""
        if outputs.numel() != targets.numel():
            raise InputError(
                f"{label} returns {describe_output(outputs)} for targets of shape {list(targets.shape)}; it must "
                f"return {self.form.description}"
            )
