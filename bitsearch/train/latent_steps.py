"""How latents move under an optimizer of any kind: by Adam all the same."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import Adam, Optimizer

_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}
"""What Adam keeps of a parameter."""


class LatentSteps:
    """Moves latents by Adam whenever another optimizer makes a step, which then finds them without a gradient.

    A latent has to cross half a bit in a few dozen steps, however large the loss is. Adam's steps are as long as its
    rate; those of gradient descent are as long as the gradient, which follows the penalty's weight, and momentum makes
    ten of one. The moments are kept in the other optimizer's state, and saved and loaded with it.

    Args:
        optimizer: of the weights; where it has groups that are marked as ``latents``, their rates are followed.
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
            if not optimizer.state.get(latent, {}).keys() >= _MOMENTS:
                # What an optimizer such as Adagrad has put there when it was made.
                optimizer.state.pop(latent, None)
        # Anew each time: what is loaded are other dictionaries, and a schedule changes the rates.
        rates = {id(p): group["lr"] for group in optimizer.param_groups if "latents" in group for p in group["params"]}
        for group in self.adam.param_groups:
            group["lr"] = rates.get(id(group["params"][0]), group["lr"])
        self.adam.state = optimizer.state
        self.adam.step()
