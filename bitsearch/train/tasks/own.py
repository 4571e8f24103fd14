"""A task of the user's own: loss and metric are functions of outputs and targets."""

from collections.abc import Mapping

from bitsearch.data.targets import Targets
from bitsearch.errors import InputError
from bitsearch.task_settings import TaskSettings
from bitsearch.train.predict import OutputForm
from bitsearch.train.tasks.task import LearningTask


class Own(LearningTask):
    """``loss`` and ``metric`` as ``package.module:function``, or a metric of torchmetrics; any numbers as targets."""

    targets = Targets("any")
    losses: Mapping[str, object] = {}  # type: ignore[assignment]  # none of its own: the user's

    def __init__(self, settings: TaskSettings, classes: int, target_axes: int = 0) -> None:
        if ":" not in (settings.loss or ""):
            raise InputError(f"task.loss is {settings.loss!r}; task.name own takes package.module:function")
        super().__init__(settings, classes, target_axes)

    @classmethod
    def output_form(cls, settings: TaskSettings, target_axes: int) -> OutputForm:
        """As the base class."""
        return OutputForm(settings.output, axes=max(1, target_axes), single=True, description="[N, ...] or [T, N, ...]")
