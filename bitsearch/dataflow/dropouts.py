"""Dropouts, which do nothing in evaluation, where a network is recorded, and change in training what comes through."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bitsearch.dataflow.origins import OriginTracker
from bitsearch.frameworks.layers import DROPOUTS

_FUNCTIONS = (
    "dropout",
    "alpha_dropout",
    "feature_dropout",
    "feature_alpha_dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
)


class DropoutWatch(TorchFunctionMode):
    """While it is entered, what comes through a dropout is mixed: of a neuron's currents it would be something else."""

    def __init__(self, tracker: OriginTracker) -> None:
        super().__init__()
        self._tracker = tracker

    def after(self, module: nn.Module, output: Any) -> None:
        """A module has run."""
        if isinstance(module, DROPOUTS) and module.p:
            self._mark(output)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function of torch's."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if getattr(func, "__name__", "").removesuffix("_") in _FUNCTIONS and kwargs.get("p", [*args, 0.5, 0.5][1]):
            self._mark(result)
        return result

    def _mark(self, result: Any) -> None:
        origin = self._tracker.of(result) if isinstance(result, Tensor) else None
        if origin is not None and origin.neurons:
            self._tracker.mark(result, replace(origin, mixed=True))
