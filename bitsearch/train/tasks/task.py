"""The base of all tasks: the only thing that knows loss, score and output."""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from bitsearch.data.targets import CLASS, Targets
from bitsearch.errors import InputError, suggestion
from bitsearch.registry import build, find_factory, is_import_path
from bitsearch.score import Score
from bitsearch.task_settings import TaskSettings
from bitsearch.train.predict import LOGITS, OutputForm
from bitsearch.train.tasks.losses import Loss, OwnLoss
from bitsearch.train.tasks.scores import NoNumberError, OwnScore, Scoring, TorchmetricsScore

Pair = tuple[Tensor, Tensor]


_DIRECTIONS: dict[bool | None, Literal["up", "down"]] = {True: "up", False: "down"}


class LearningTask:
    """What a network is trained for, and what it is judged by.

    Args:
        settings: ``[task]`` of the search space.
        classes: or labels, or values, that the network gives (at a position).
        target_axes: of one sample's target.
    """

    targets: Targets = CLASS
    losses: Mapping[str, Callable[[TaskSettings], Loss]]
    """By name; the first is the default."""
    metrics: Mapping[str, tuple[str, Score, Mapping[str, Any]]] = {}
    """By name: class of torchmetrics, what it is, and its keywords; the first is the default."""

    def __init__(self, settings: TaskSettings, classes: int, target_axes: int = 0) -> None:
        self.settings, self.classes = settings, classes
        self.form = self.output_form(settings, target_axes)
        self.loss = self._loss()
        self.scoring = self._scoring()

    @classmethod
    def output_form(cls, settings: TaskSettings, target_axes: int) -> OutputForm:
        """What a network is to return, for targets with so many axes a sample."""
        return LOGITS

    @property
    def has_classes(self) -> bool:
        """Whether every sample is of one class."""
        return self.targets.kind == "class"

    @property
    def score(self) -> Score:
        """What is measured."""
        return self.scoring.score

    def ready(self, outputs: Tensor, targets: Tensor) -> Pair:
        """Outputs and targets as the metric takes them."""
        return outputs, targets

    def check(self, mean: Tensor, outputs: Tensor, targets: Tensor, label: str) -> None:
        """InputError, which names the network by ``label``, if its outputs do not fit targets, loss or metric.

        Args:
            mean: of the outputs over time steps.
            outputs: as the loss takes them.
            targets: of the same samples.
            label: of the network.
        """
        self.check_shape(mean, targets, label)
        with torch.no_grad():
            loss = float(self.loss.summed(outputs.float(), targets)) / len(outputs)
        if not 0 <= loss < math.inf:
            raise InputError(
                f"{label}: the loss is {loss} on {len(outputs)} samples; it has to be a finite number, not below zero"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self.scoring.of_all(mean.detach().float(), targets)
            except NoNumberError:
                raise
            except InputError:
                # A few samples may be too few for it; a whole split will tell.
                pass

    def check_shape(self, outputs: Tensor, targets: Tensor, label: str) -> None:
        """InputError if the outputs are not of the shape that the targets ask for."""

    def _loss(self) -> Loss:
        name = self.settings.loss or next(iter(self.losses))
        if is_import_path(name):
            return OwnLoss(find_factory(name, {}, "loss"), name)
        if name not in self.losses:
            raise InputError(
                f"no loss {name!r} in task {self.settings.name!r}; known: {', '.join(self.losses)}; or give your own "
                f"as package.module:name{suggestion(name, self.losses)}"
            )
        return self.losses[name](self.settings)

    def _scoring(self) -> Scoring:
        name = self.settings.metric or next(iter(self.metrics))
        if name in self.metrics:
            kind, score, options = self.metrics[name]
            self._check_direction(name, score.direction)
            return self._torchmetrics(kind, {**options, **self.settings.metric_options}, score)
        if not is_import_path(name):
            return self._torchmetrics(name, self.settings.metric_options, None)
        function = find_factory(name, {}, "metric")
        if isinstance(function, type):
            return self._torchmetrics(name, self.settings.metric_options, None)
        if self.settings.direction is None:
            raise InputError(
                f"task.metric {name!r} does not say whether a higher score is better; set task.direction to up or down"
            )
        title = name.rpartition(":")[2].replace("_", " ")
        score = Score(name=title, share=False, unit=self.settings.unit, direction=self.settings.direction)
        return OwnScore(function, score, name)

    def _torchmetrics(self, name: str, options: Mapping[str, Any], score: Score | None) -> Scoring:
        kind = metric_class(name, list(self.metrics))
        accepted = inspect.signature(kind).parameters
        defaults = {
            key: value
            for key, value in {
                "num_classes": self.classes,
                "num_labels": self.classes,
                "task": "multilabel" if self.targets.kind == "flags" else "multiclass",
                "ignore_index": self.settings.ignored_label if self.targets.kind == "classes" else None,
            }.items()
            if key in accepted and value is not None
        }

        def make() -> Any:
            from torchmetrics import Metric

            with warnings.catch_warnings():
                # A metric that is no sum over samples keeps all of them, which is known here.
                warnings.filterwarnings("ignore", ".*will save all targets and predictions", UserWarning)
                metric = build(name, options, {name: kind}, "metric", defaults)
            if not isinstance(metric, Metric):
                raise InputError(f"task.metric {name!r} makes a {type(metric).__name__}, no torchmetrics.Metric")
            return metric.set_dtype(torch.float64)

        return TorchmetricsScore(make, score or self._score_of(make(), name), self.ready)

    def _check_direction(self, name: str, known: Literal["up", "down"]) -> None:
        """InputError if the settings say otherwise than the metric itself: the worst plan would be chosen."""
        if self.settings.direction not in (None, known):
            better = "higher" if known == "up" else "lower"
            raise InputError(
                f"task.direction is {self.settings.direction}, but a {better} {name!r} is better; leave it out"
            )

    def _score_of(self, metric: Any, name: str) -> Score:
        known = _DIRECTIONS.get(metric.higher_is_better)
        if known is not None:
            self._check_direction(name, known)
        direction = known or self.settings.direction
        if direction is None:
            raise InputError(
                f"task.metric {name!r} does not say whether a higher score is better; set task.direction to up or down"
            )
        bounds = metric.plot_lower_bound, metric.plot_upper_bound
        unit = self.settings.unit
        words = "".join(
            f" {c.lower()}" if c.isupper() and not p.isupper() else c for p, c in zip(" " + name, name, strict=False)
        )
        return Score(
            name=words.rpartition(":")[2].strip(), share=bounds == (0, 1) and not unit, unit=unit, direction=direction
        )


def metric_class(name: str, known: list[str]) -> Callable[..., Any]:
    """A class of torchmetrics by its name, or by ``package.module:Class``; InputError if there is none."""
    if is_import_path(name):
        return find_factory(name, {}, "metric")
    import torchmetrics
    from torchmetrics import classification, regression, segmentation

    for module in (torchmetrics, classification, regression, segmentation):
        kind = getattr(module, name, None)
        if isinstance(kind, type) and name[:1].isupper():
            return kind
    names = [*known, *torchmetrics.__all__]
    raise InputError(
        f"no metric {name!r}; known: {', '.join(known)}, every class of torchmetrics by its name, or your own as "
        f"package.module:name{suggestion(name, names)}"
    )
