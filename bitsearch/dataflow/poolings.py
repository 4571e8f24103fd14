"""Poolings that run in a network, as modules or as functions, since chips know some kinds and not others."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

_KINDS = {
    "avg_pool": "average",
    "adaptive_avg_pool": "average",
    "max_pool": "max",
    "max_pool_with_indices": "max",
    "adaptive_max_pool": "max",
    "adaptive_max_pool_with_indices": "max",
    "fractional_max_pool": "max",
    "fractional_max_pool_with_indices": "max",
}
"""By the name of torch's function without its number of axes. An LPPool of norm 1 is a ``sum``, of others a ``power``.

A mean over whole axes is no pooling here: it is one of torch's reductions, over time or tokens as well.
"""


class PoolingWatch(TorchFunctionMode):
    """While it is entered, notes the kinds of pooling that run.

    Args:
        running: gives the innermost module that runs.
    """

    def __init__(self, running: Callable[[], nn.Module]) -> None:
        super().__init__()
        self._running = running
        self.kinds: dict[nn.Module, str] = {}
        """By the module that pools."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function of torch's."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").replace("1d", "").replace("2d", "").replace("3d", "")
        if name == "lp_pool":
            self.kinds[self._running()] = "sum" if kwargs.get("norm_type", [*args, 0, 0][1]) == 1 else "power"
        elif name in _KINDS:
            self.kinds[self._running()] = _KINDS[name]
        return func(*args, **kwargs)
