"""Distillation (Hinton et al. 2015): a quantized network learns what the full-precision one makes of its inputs."""

import copy
from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from bitsearch.data.targets import counted_rows
from bitsearch.errors import InputError, suggestion
from bitsearch.frameworks.eval_mode import eval_mode
from bitsearch.frameworks.neurons import is_spiking
from bitsearch.frameworks.reparametrized import detach_computed_weights
from bitsearch.network_inputs import Inputs, narrowed
from bitsearch.quant.uniform import working_precision
from bitsearch.train.layer_outputs import LayerOutputs, layer_outputs, watched
from bitsearch.train.loop import Callback
from bitsearch.train.precision import autocast
from bitsearch.train.session import TrainingSession
from bitsearch.train.tasks import CLASSIFICATION, LearningTask
from bitsearch.training import Distillation, Precision


class DistillationLoss(Callback):
    """Replaces a share of the task's loss by the divergence from a teacher's outputs.

    (1 − w) · loss + w · (τ² · Σ D(teacher / τ, student / τ) + Σ F), where τ² keeps the gradients as long as those of
    the task's loss, whatever the temperature. D is the loss's own: of cross-entropy KL(softmax(teacher / τ) ‖
    softmax(student / τ)), of squared error the mean squared difference, to which τ makes no difference. F is the mean
    of :func:`feature_error` over the features (Romero et al. 2015, without their regressor: both networks have the
    same shapes).

    Args:
        teacher: gives outputs for the same inputs; it is copied.
        settings: w, τ and the features.
        task: that both are trained for.
        student: what is trained; needed for features.
        batch_axis: the samples' axis in the inputs.
        precision: of the teacher's passes; those of the training steps.
    """

    def __init__(
        self,
        teacher: nn.Module,
        settings: Distillation,
        task: LearningTask = CLASSIFICATION,
        student: nn.Module | None = None,
        batch_axis: int = 0,
        precision: Precision = "float32",
    ) -> None:
        detach_computed_weights(teacher)
        self.teacher, self.settings, self.task = copy.deepcopy(teacher), settings, task
        self.student, self._watch, self.precision = student, ExitStack(), precision
        self.batch_axis, self.outputs = batch_axis, LayerOutputs()
        self._axes: dict[str, int | None] = {}

    def before_batch(self, *parts: Inputs, targets: Sequence[Tensor] = ()) -> None:
        """From here to the end of the step, what the student's features return is kept."""
        self._watch.close()
        if self.student is not None and self.settings.features:
            self.outputs = self._watch.enter_context(watched(self.student, self.settings.features))

    def part_loss(self, loss: Tensor, inputs: Inputs, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of a part of a batch; a sample that only fills a process's share counts in no term."""
        names = self.settings.features
        with eval_mode(self.teacher), autocast(labels.device, self.precision):
            expected_features, expected = layer_outputs(self.teacher, names, inputs, self.task.form)
        temperature, weight = self.settings.temperature, self.settings.weight
        present = counted_rows(labels)
        expected = working_precision(expected)[present] / temperature
        distance = temperature**2 * self.task.loss.divergence(
            expected, working_precision(outputs)[present] / temperature
        )
        if names and not self._axes and len(labels) > 1:
            fewer = narrowed(inputs, self.batch_axis, 0, len(labels) - 1)
            with eval_mode(self.teacher), autocast(labels.device, self.precision):
                of_fewer, _ = layer_outputs(self.teacher, names, fewer, self.task.form)
            calls = {name: list(zip(expected_features[name], of_fewer[name], strict=False)) for name in names}
            self._axes = {name: _sample_axis(*calls[name][0]) if calls[name] else None for name in names}
        for name in names:
            distance = distance + self._feature_error(name, expected_features[name], present) / len(names)
        return (1 - weight) * loss + weight * distance

    def after_step(self) -> None:
        """An evaluation's outputs are nobody's concern."""
        self._watch.close()

    def _feature_error(self, name: str, expected: list[Tensor], present: Tensor) -> Tensor:
        """Of all calls of a module, their mean."""
        # Of a part that is computed again in its backward pass there are more: those come later, and go with the next.
        returned = self.outputs[name][-len(expected) :]
        self.outputs[name].clear()
        if not expected or [x.shape for x in returned] != [x.shape for x in expected]:
            raise InputError(
                f"training.distillation.features: {name!r} returns {_shapes(returned)}, and in full precision "
                f"{_shapes(expected)}; name one that returns the same shapes"
            )
        samples, axis = len(present), self._axes.get(name)
        errors = [
            feature_error(_rows(x, samples, axis), _rows(y, samples, axis))[present]
            for x, y in zip(expected, returned, strict=True)
        ]
        return torch.stack(errors).mean(0).sum()


def feature_error(expected: Tensor, returned: Tensor) -> Tensor:
    """‖y − x‖² / ‖x‖² of every row ``[N, K]``, float32 ``[N]``: in proportion, whatever the features' scale.

    A row of zeros has no scale; its error is 0.
    """
    expected, returned = working_precision(expected), working_precision(returned)
    scale = expected.square().sum(1)
    error = (returned - expected).square().sum(1)
    return torch.where(scale > 0, error / scale.where(scale > 0, 1), 0)


def _sample_axis(x: Tensor, of_fewer: Tensor) -> int | None:
    """The first or second axis, whichever is shorter where there are fewer samples; None if neither is."""
    sizes = zip(x.shape[:2], of_fewer.shape[:2], strict=False)
    return next((axis for axis, (size, less) in enumerate(sizes) if size != less), None)


def _rows(x: Tensor, samples: int, axis: int | None) -> Tensor:
    """``[N, ...]``, ``[T·N, ...]`` or ``[T, N, ...]`` as ``[N, K]``; one row for all where samples have no axis."""
    if axis is None:
        return x.reshape(1, -1).expand(samples, -1)
    return (x.unflatten(0, (-1, samples)) if axis == 0 else x).transpose(0, 1).reshape(samples, -1)


def _shapes(outputs: list[Tensor]) -> str:
    return ", ".join(str(list(x.shape)) for x in outputs) or "nothing"


def check_features(network: nn.Module, settings: Distillation | None) -> None:
    """InputError unless all features are modules of a float network whose quantized copy has the same numbers."""
    modules = dict(network.named_modules())
    for name in () if settings is None else settings.features:
        if name not in modules:
            raise InputError(
                f"training.distillation.features names {name!r}, and the network has no such module"
                f"{suggestion(name, modules) or '; bitsearch profile lists its layers'}"
            )
        if is_spiking(modules[name]) or isinstance(modules[name], nn.ReLU):
            raise InputError(
                f"training.distillation.features names {name!r}, a {type(modules[name]).__name__}, in place of which "
                "layers behind it fire; name a layer, a norm or a block"
            )


def distillation(session: TrainingSession, student: nn.Module) -> list[Callback]:
    """What fine-tuning of a student has of it, as the session's settings say.

    Raises:
        InputError: they ask for it, and the session has no teacher.
    """
    settings = session.settings.distillation
    if settings is None or settings.weight == 0:
        return []
    precision = session.settings.precision
    if session.teacher is None:
        raise InputError(
            "training.distillation learns from the full-precision network of a run, and there is none here; give a "
            "plan inside its run folder, or set training.distillation.weight to 0"
        )
    return [DistillationLoss(session.teacher, settings, session.task, student, session.splits.batch_axis, precision)]
