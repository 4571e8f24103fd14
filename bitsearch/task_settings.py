"""The task that networks are trained for, as a search space names it: ``[task]``."""

from typing import Any, Literal

from pydantic import Field, model_validator

from bitsearch.score import ACCURACY, Score
from bitsearch.validation import Count, Frozen, Name, Positive

TaskName = Literal["classification", "multi_label", "segmentation", "sequence", "regression", "own"]


class TaskSettings(Frozen):
    """Loss, score and output of the networks; see :mod:`bitsearch.train.tasks`."""

    name: TaskName = "classification"
    loss: Name | None = None
    """One that the task has, or ``package.module:function``; the task's first by default."""
    metric: Name | None = None
    """One that the task has, a class of torchmetrics by its name, or ``package.module:function``; likewise."""
    metric_options: dict[str, Any] = {}
    """Keywords of a torchmetrics class."""
    direction: Literal["up", "down"] | None = None
    """Whether a higher score is better, where the metric does not say so itself."""
    unit: str = Field(default="", max_length=40)
    """Of the score, for people."""
    output: str | int | None = None
    """Name or index of the part that is meant, where the network returns a dict, a tuple or a named tuple."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Of cross-entropy."""
    class_weights: tuple[Positive, ...] | None = None
    """Of cross-entropy, one a class; the loss is the weighted sum over samples, divided by their number."""
    ignored_label: int = -100
    """Of dense labels and sequences: positions that neither loss nor score counts."""
    top_k: Count = 1
    """Of accuracy: the label is among the k largest logits."""

    @model_validator(mode="after")
    def _consistent(self) -> "TaskSettings":
        if self.name == "own" and (self.loss is None or self.metric is None):
            raise ValueError('task.name "own" needs task.loss and task.metric; give both as package.module:function')
        return self

    @property
    def is_accuracy(self) -> bool:
        """Whether the score is plain accuracy, which every plan and page had before there were others."""
        return self.name == "classification" and self.metric in (None, "accuracy") and self.top_k == 1

    @property
    def guess(self) -> Score | None:
        """The score where it is known without the metric's own code."""
        return ACCURACY if self.is_accuracy else None
