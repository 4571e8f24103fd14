"""Early stopping: a training ends where validation improves no more, with its best epoch's weights."""

from typing import Any

from torch import Tensor, nn


class EarlyStopping:
    """Keeps the best epoch's weights, and says when so many epochs have gone by without a better one.

    Args:
        network: that is trained.
        patience: in epochs.
    """

    def __init__(self, network: nn.Module, patience: int) -> None:
        self.network, self.patience = network, patience
        self.best, self.waited = float("-inf"), 0
        self.weights: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """The best epoch's score and weights, and the epochs since."""
        return {"best": self.best, "waited": self.waited, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from there."""
        self.best, self.waited, self.weights = state["best"], state["waited"], state["weights"]

    def after_epoch(self, score: float) -> bool:
        """Take in an epoch's validation score; True if it was one too many."""
        self.waited += 1
        if score > self.best:
            self.best, self.waited = score, 0
            self.weights = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        return self.waited >= self.patience

    def restore(self) -> None:
        """Give the network the best epoch's weights."""
        self.network.load_state_dict(self.weights)
