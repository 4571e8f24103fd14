"""How latents move in a loop of the user's by gradient descent: by Adam all the same."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import Adam, Optimizer


class LatentSteps:
    """Moves latents by Adam whenever another optimizer makes a step, which then finds them without a gradient.

    A latent has to cross half a bit in a few dozen steps, however large the loss is. Adam's steps are as long as its
    rate; those of gradient descent are as long as the gradient, which follows the penalty's weight, and momentum makes
    ten of one. The moments are kept in the other optimizer's state, and saved and loaded with it.

    Args:
        optimizer: of the user's.
        groups: of latents, each with its ``lr``, as for a torch optimizer.
    """

    def __init__(self, optimizer: Optimizer, groups: Iterable[Mapping[str, Any]]) -> None:
        self.adam = Adam([{"params": group["params"], "lr": group["lr"]} for group in groups])
        self.latents = [latent for group in self.adam.param_groups for latent in group["params"]]
        self.gradients: list[Tensor | None] = []
        optimizer.register_step_pre_hook(self._take)
        optimizer.register_step_post_hook(self._move)

    def _take(self, optimizer: Optimizer, *_: Any) -> None:
        self.gradients = [latent.grad for latent in self.latents]
        for latent in self.latents:
            latent.grad = None

    def _move(self, optimizer: Optimizer, *_: Any) -> None:
        for latent, gradient in zip(self.latents, self.gradients, strict=True):
            latent.grad = gradient
        # Anew each time: a state that is loaded is another dictionary.
        self.adam.state = optimizer.state
        self.adam.step()
