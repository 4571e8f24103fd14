r"""Losses, each with its curvature in a network's outputs.

The Fisher-weighted error of a quantizer needs, sample by sample, the Hessian H of the loss in the outputs: the
generalized Gauss-Newton matrix. It is drawn, not formed: random slopes v with

.. math::
    \mathbb{E}[v v^\top] = H

whose backward pass gives gradients with the Fisher's diagonal as their mean square.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bitsearch.data.targets import NO_LABEL, counted_rows
from bitsearch.errors import InputError, located
from bitsearch.network_inputs import is_dense

LARGEST_HESSIAN = 64
"""Outputs a sample up to which the Hessian of a user's loss is formed."""


class Loss(ABC):
    """A loss that is a sum over samples. Outputs are ``[N, ...]``, targets what the task takes."""

    @abstractmethod
    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss, a scalar, summed over the samples; its mean over them is what is minimized."""

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of every sample, ``[N]``."""
        rows = range(len(outputs))
        return torch.stack([self.summed(outputs[row : row + 1], targets[row : row + 1]) for row in rows])

    @abstractmethod
    def slopes(self, outputs: Tensor, targets: Tensor | None, signs: Tensor) -> Tensor:
        """Random slopes v, ``[N, ...]``, with E[v·vᵀ] = H for every sample's outputs.

        Args:
            outputs: without gradient.
            targets: None where they are not known: all count alike then.
            signs: ±1 at random, shaped like the outputs.
        """

    def divergence(self, outputs: Tensor, changed: Tensor) -> Tensor:
        """What changed outputs add to the loss, to second order and summed over samples: the mean squared change."""
        return (changed - outputs).square().flatten(1).mean(1).sum()


class CrossEntropy(Loss):
    """Cross-entropy with class numbers or, as float targets, shares of the classes; classes are on axis 1.

    Positions of dense outputs ``[N, C, ...]`` are averaged. H = diag(p) − p·pᵀ at each, over their number.

    Args:
        label_smoothing: as of :func:`torch.nn.functional.cross_entropy`.
        class_weights: one a class.
        ignored: label that does not count.
    """

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None, ignored: int = NO_LABEL
    ) -> None:
        self.label_smoothing, self.ignored = label_smoothing, ignored
        self.class_weights = None if class_weights is None else torch.tensor(class_weights)

    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """As the base class; positions are averaged, the ignored ones as zeros."""
        positions = outputs[0, 0].numel()
        if targets.is_floating_point():
            outputs, targets = outputs[~targets.flatten(1).isnan().any(1)], targets[~targets.flatten(1).isnan().any(1)]
            targets = targets.to(outputs.dtype)
        elif self.ignored != NO_LABEL:
            targets = targets.masked_fill(targets == NO_LABEL, self.ignored)
        loss = F.cross_entropy(
            outputs,
            targets,
            weight=None if self.class_weights is None else self.class_weights.to(outputs),
            ignore_index=self.ignored,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        return loss if positions == 1 else loss / positions

    def each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """As the base class; of class numbers, all samples at once."""
        if targets.is_floating_point():
            return super().each(outputs, targets)
        of_one = torch.func.vmap(lambda output, target: self.summed(output.unsqueeze(0), target.unsqueeze(0)))
        losses: Tensor = of_one(outputs, targets)
        return losses

    def slopes(self, outputs: Tensor, targets: Tensor | None, signs: Tensor) -> Tensor:
        """As the base class; zero where the label is ignored."""
        slopes = fisher_slopes(outputs, signs, 1)
        if targets is not None and not targets.is_floating_point():
            counted = (targets != self.ignored) & (targets != NO_LABEL)
            if self.class_weights is not None:
                weights = self.class_weights.to(outputs)[targets.where(counted, targets.new_zeros(()))]
                slopes = slopes * weights.sqrt().unsqueeze(1)
            if not bool(counted.all()):
                slopes = slopes * counted.unsqueeze(1)
        positions = outputs[0, 0].numel()
        return slopes if positions == 1 else slopes / positions**0.5

    def divergence(self, outputs: Tensor, changed: Tensor) -> Tensor:
        """Kullback-Leibler divergence in nats."""
        now, then = outputs.log_softmax(1), changed.log_softmax(1)
        total = F.kl_div(then, now, log_target=True, reduction="sum")
        positions = outputs[0, 0].numel()
        return total if positions == 1 else total / positions


def fisher_slopes(logits: Tensor, signs: Tensor, axis: int = -1) -> Tensor:
    """Random slopes of cross-entropy with the covariance of those of labels sampled from the output.

    That is diag(p) − p·pᵀ. A sure network's sampled labels are nearly always the same ones, which show nothing, and now
    and then another that shows all; ``signs`` (±1, shaped like the logits) make every sample show its share.
    Classes are on ``axis``.
    """
    p = logits.softmax(axis)
    shares = p.sqrt() * signs
    return shares - p * shares.sum(axis, keepdim=True)


class EveryStep(Loss):
    """Temporal efficient training (Deng et al. 2022): a loss at every time step, averaged; outputs ``[N, T, ...]``."""

    def __init__(self, at_a_step: Loss) -> None:
        self.at_a_step = at_a_step

    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """As the base class."""
        steps = outputs.unbind(1)
        return torch.stack([self.at_a_step.summed(step, targets) for step in steps]).mean()

    def slopes(self, outputs: Tensor, targets: Tensor | None, signs: Tensor) -> Tensor:
        """As the base class."""
        steps = zip(outputs.unbind(1), signs.unbind(1), strict=True)
        slopes = [self.at_a_step.slopes(step, targets, of_step) for step, of_step in steps]
        result: Tensor = torch.stack(slopes, 1) / len(slopes) ** 0.5
        return result

    def divergence(self, outputs: Tensor, changed: Tensor) -> Tensor:
        """As the base class."""
        steps = zip(outputs.unbind(1), changed.unbind(1), strict=True)
        return torch.stack([self.at_a_step.divergence(now, then) for now, then in steps]).mean()


class BinaryCrossEntropy(Loss):
    """Cross-entropy of each label alone, averaged over labels. H = diag(p·(1 − p)) over their number."""

    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """As the base class."""
        outputs, targets = counted(outputs, targets)
        return F.binary_cross_entropy_with_logits(outputs, targets, reduction="sum") / _numbers(outputs)

    def slopes(self, outputs: Tensor, targets: Tensor | None, signs: Tensor) -> Tensor:
        """As the base class."""
        p = outputs.sigmoid()
        return (p * (1 - p) / _numbers(outputs)).sqrt() * signs

    def divergence(self, outputs: Tensor, changed: Tensor) -> Tensor:
        """Kullback-Leibler divergence of the labels, in nats, averaged over them."""
        p = outputs.sigmoid()
        on = p * (F.logsigmoid(outputs) - F.logsigmoid(changed))
        off = (1 - p) * (F.logsigmoid(-outputs) - F.logsigmoid(-changed))
        return (on + off).sum() / _numbers(outputs)


class SquaredError(Loss):
    """Squared error, averaged over a sample's numbers. H is 2 over their number, times the identity."""

    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """As the base class."""
        outputs, targets = counted(outputs, targets)
        return F.mse_loss(outputs, targets, reduction="sum") / _numbers(outputs)

    def slopes(self, outputs: Tensor, targets: Tensor | None, signs: Tensor) -> Tensor:
        """As the base class."""
        result: Tensor = (2 / _numbers(outputs)) ** 0.5 * signs
        return result


class AbsoluteError(SquaredError):
    """Absolute error, likewise. Its own curvature is zero nearly everywhere: that of squared error stands for it."""

    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """As the base class."""
        outputs, targets = counted(outputs, targets)
        return F.l1_loss(outputs, targets, reduction="sum") / _numbers(outputs)


class Huber(Loss):
    """Huber's loss with δ = 1, likewise. H is the identity over their number where the error is below δ, else zero."""

    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """As the base class."""
        outputs, targets = counted(outputs, targets)
        return F.huber_loss(outputs, targets, reduction="sum") / _numbers(outputs)

    def slopes(self, outputs: Tensor, targets: Tensor | None, signs: Tensor) -> Tensor:
        """As the base class."""
        slopes = signs / _numbers(outputs) ** 0.5
        result: Tensor = slopes if targets is None else slopes * ((outputs - targets.view_as(outputs)).abs() < 1)
        return result

    def divergence(self, outputs: Tensor, changed: Tensor) -> Tensor:
        """Half of the mean squared change."""
        return super().divergence(outputs, changed) / 2


class RateError(SquaredError):
    """Squared error of firing rates ``[N, C]`` to one for the label's neuron and zero for the others."""

    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """As the base class."""
        present = targets != NO_LABEL
        outputs, targets = outputs[present], targets[present]
        return super().summed(outputs, F.one_hot(targets, outputs.shape[1]).to(outputs.dtype))


class OwnLoss(Loss):
    """A function (outputs, targets) of the user's: one number a sample, or their mean.

    Its Hessian is formed by double backward passes through the function alone, where a sample has at most
    :data:`LARGEST_HESSIAN` outputs; negative eigenvalues count as zero. Otherwise, and where it has no curvature, the
    slopes are the loss's own gradients with random signs: the empirical Fisher.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Any], name: str) -> None:
        self.function, self.name = function, name
        self._told = False

    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """As the base class.

        Raises:
            InputError: the function fails, or returns neither.
        """
        outputs, targets = _rows_present(outputs, targets)
        if not len(outputs):
            return outputs.sum()
        try:
            loss = self.function(outputs, targets)
        except (Exception, SystemExit) as error:
            raise InputError(f"task.loss {self.name!r} failed at {located(error)}") from error
        if isinstance(loss, Tensor) and is_dense(loss) and loss.is_floating_point():
            if loss.dim() == 0:
                return loss * len(outputs)
            if len(loss) == len(outputs):
                return loss.flatten(1).mean(1).sum() if loss.dim() > 1 else loss.sum()
        kind = type(loss).__name__
        if isinstance(loss, Tensor):
            kind = f"a tensor {list(loss.shape)}" if is_dense(loss) else "no dense tensor"
        raise InputError(
            f"task.loss {self.name!r} returned {kind} for {len(outputs)} samples; return a float tensor: one number a "
            "sample, or their mean"
        )

    def slopes(self, outputs: Tensor, targets: Tensor | None, signs: Tensor) -> Tensor:
        """As the base class; without targets, those of squared error."""
        if targets is None:
            slopes: Tensor = (2 / _numbers(outputs)) ** 0.5 * signs
            return slopes
        with torch.enable_grad():
            outputs = outputs.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.summed(outputs, targets), outputs, create_graph=True)
            flat = gradient.flatten(1)
            hessian = None
            if gradient.requires_grad and flat.shape[1] <= LARGEST_HESSIAN:
                rows = [
                    torch.autograd.grad(flat[:, index].sum(), outputs, retain_graph=True, materialize_grads=True)[0]
                    for index in range(flat.shape[1])
                ]
                hessian = torch.stack([row.flatten(1) for row in rows], 1).detach()
        if hessian is None or not bool(hessian.any()):
            if not self._told:
                warnings.warn(
                    f"task.loss {self.name!r} has no Hessian here; its bits are weighed by the empirical Fisher",
                    stacklevel=2,
                )
                self._told = True
            return gradient.detach() * signs.flatten(1)[:, :1].view(-1, *[1] * (outputs.dim() - 1))
        values, vectors = torch.linalg.eigh((hessian + hessian.mT) / 2)
        half = vectors * values.clamp_min(0).sqrt().unsqueeze(1) @ vectors.mT
        slopes = half @ signs.flatten(1).unsqueeze(2)
        return slopes.squeeze(2).view_as(outputs)


def counted(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and float targets of the same shape, of the samples that count."""
    outputs, targets = _rows_present(outputs, targets)
    return outputs, targets.to(outputs.dtype).view_as(outputs)


def _rows_present(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Without the samples that another process counts already."""
    present = counted_rows(targets)
    return (outputs, targets) if bool(present.all()) else (outputs[present], targets[present])


def _numbers(outputs: Tensor) -> int:
    return max(1, outputs[:1].numel()) if len(outputs) else 1
