"""Mixup: training on mixtures of samples (Zhang et al. 2018)."""

from collections.abc import Callable

import torch
from torch import Tensor

from bitsearch.data.inputs import dtype_name
from bitsearch.errors import InputError
from bitsearch.network_inputs import Inputs, map_inputs, tensors_of

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of outputs and labels, a scalar."""


def check_mixup(alpha: float | None, inputs: Inputs) -> None:
    """InputError if it is asked for, and a batch's inputs are such that nothing lies between two of them."""
    whole = [dtype_name(x) for x in tensors_of(inputs) if not x.is_floating_point()]
    if alpha is not None and whole:
        raise InputError(
            f"training.mixup is {alpha:g}, and an input is {whole[0]}: between two tokens, classes or masks there is "
            "no third; leave it out"
        )


class Mixup:
    """Mixes every sample of a batch with another one: x̃ = λ·x + (1 − λ)·x′, and its loss likewise.

    That is the cross-entropy with mixed labels, which is linear in them, for labels of any kind. λ and the partners are
    drawn from torch's global generator, which every epoch seeds.

    Args:
        alpha: λ has the distribution Beta(α, α), one for every batch; None mixes nothing.
        batch_axis: the samples' axis in the inputs.
    """

    def __init__(self, alpha: float | None, batch_axis: int) -> None:
        self.alpha, self.batch_axis = alpha, batch_axis
        self.share = 1.0

    def mix(self, inputs: Inputs, labels: Tensor) -> tuple[Inputs, Tensor]:
        """A batch's inputs, mixed, and both labels of every sample ``[N, 2, ...]``."""
        if self.alpha is None:
            return inputs, labels
        self.share = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        partners = torch.randperm(len(labels)).to(labels.device)

        def mixed(x: Tensor) -> Tensor:
            return torch.lerp(x.index_select(self.batch_axis, partners), x, self.share)

        return map_inputs(mixed, inputs), torch.stack([labels, labels[partners]], dim=1)

    def first(self, labels: Tensor) -> Tensor:
        """The label of every sample that is not its partner's."""
        return labels if self.alpha is None else labels[:, 0]

    def loss(self, loss: Loss, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of mixed samples, or of a part of them."""
        if self.alpha is None:
            return loss(outputs, labels)
        first, second = labels.unbind(1)
        return self.share * loss(outputs, first) + (1 - self.share) * loss(outputs, second)
