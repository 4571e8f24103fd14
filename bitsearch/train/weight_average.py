"""An exponential moving average of a network's weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """The average of all parameters, and of the statistics of batch norm, after every step; torch's own formula.

    Args:
        network: whose tensors are averaged.
        decay: of the average, a step; None averages nothing.
    """

    def __init__(self, network: nn.Module, decay: float | None) -> None:
        statistics = [
            statistic
            for module in network.modules()
            if isinstance(module, _NormBase)
            for statistic in (module.running_mean, module.running_var)
            if statistic is not None
        ]
        self.tensors = [] if decay is None else [p.detach() for p in network.parameters()] + statistics
        self.average = [tensor.clone() for tensor in self.tensors]
        self.started = False
        self._update = get_ema_multi_avg_fn(decay or 0.0)

    def state_dict(self) -> dict[str, Any]:
        """The average so far."""
        return {"average": self.average, "started": self.started}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from there."""
        for average, kept in zip(self.average, state["average"], strict=True):
            average.copy_(kept)
        self.started = state["started"]

    @torch.no_grad()
    def step(self) -> None:
        """Take in the weights after a step; the first ones are the average."""
        if not self.tensors:
            return
        if self.started:
            self._update(self.average, self.tensors, None)
        else:
            torch._foreach_copy_(self.average, self.tensors)
            self.started = True

    @torch.no_grad()
    def apply(self) -> None:
        """Give the network the average."""
        if self.started:
            torch._foreach_copy_(self.tensors, self.average)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the network has the average; after, what it had before."""
        before = [tensor.clone() for tensor in self.tensors]
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                if before:
                    torch._foreach_copy_(self.tensors, before)
