"""What the target of a sample is, and what is wrong with one that is another."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from bitsearch.errors import InputError

NO_LABEL = -100
"""Label that :func:`torch.nn.functional.cross_entropy` ignores."""


@dataclass(frozen=True)
class Targets:
    """The kind of target that a task takes.

    ``class``: a class number. ``classes``: an integer tensor of class numbers, such as an image of them. ``values``:
    floats. ``flags``: one 0 or 1 a label. ``any``: what a loss of the user's takes, integers or floats.
    """

    kind: Literal["class", "classes", "values", "flags", "any"] = "class"
    ignored: int = NO_LABEL
    """Of ``classes``: no class number, and allowed."""

    def check(self, target: object, place: str, classes: int | None = None) -> Tensor:
        """The target as a tensor; InputError, which names the ``place``, if it is of another kind."""
        try:
            tensor = torch.as_tensor(target)
        except (TypeError, ValueError, RuntimeError):
            raise InputError(f"{place}: its target is {type(target).__name__}; give {self._words}") from None
        whole = not tensor.is_floating_point() and not tensor.is_complex()
        wrong_classes = self.kind == "classes" and (tensor.dtype != torch.int64 or not tensor.dim())
        if tensor.is_complex() or wrong_classes or (self.kind == "values" and whole):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise InputError(f"{place}: its target is {kind} {list(tensor.shape)}; give {self._words}")
        if not whole and not bool(tensor.isfinite().all()):
            raise InputError(f"{place}: its target holds {_first_not_finite(tensor)}; mend or leave out such samples")
        if self.kind == "flags" and (tensor.dim() != 1 or not bool(((tensor == 0) | (tensor == 1)).all())):
            raise InputError(f"{place}: its target is {_shown(tensor)}; give {self._words}")
        if self.kind == "classes" and classes is not None:
            wrong = (tensor != self.ignored) & ((tensor < 0) | (tensor >= classes))
            if bool(wrong.any()):
                raise InputError(
                    f"{place}: its target holds class {int(tensor[wrong][0])}, but there are {classes} classes, "
                    f"numbered from 0; what is not to count is {self.ignored} (task.ignored_label)"
                )
        return tensor

    def check_batch(self, targets: object, place: str, classes: int | None = None) -> Tensor:
        """Likewise of a batch's targets, ``[N, ...]``."""
        if not isinstance(targets, Tensor) or targets.dim() == 0:
            kind = f"{targets.dtype} without an axis" if isinstance(targets, Tensor) else type(targets).__name__
            raise InputError(f"{place}: its targets are {kind}; give a tensor [N, ...], for each sample {self._words}")
        if self.kind == "flags" and targets.dim() == 2:
            self.check(targets.flatten(), place)
        else:
            self.check(targets, place, classes)
        return targets

    def outputs(self, targets: list[Tensor]) -> int:
        """Of training targets: how many classes, labels or values a network has to give (a position)."""
        if self.kind == "classes":
            counted = [tensor[tensor != self.ignored] for tensor in targets]
            return max((int(tensor.max()) for tensor in counted if len(tensor)), default=0) + 1
        return max(1, targets[0].numel())

    @property
    def _words(self) -> str:
        return {
            "class": "the class's number as an int or an int64 tensor",
            "classes": "an int64 tensor of class numbers",
            "values": "a float, or a tensor of floats, as .float() makes",
            "any": "a number, or a tensor of numbers",
            "flags": "a tensor of one 0 or 1 a label",
        }[self.kind]


CLASS = Targets()


def absent(targets: Any) -> Any:
    """Targets like these that no loss and no score counts."""
    return torch.full_like(targets, float("nan") if targets.is_floating_point() else NO_LABEL)


def counted_rows(targets: Tensor) -> Tensor:
    """Which samples count, bool ``[N]``; of the others all targets are :func:`absent`."""
    rows = targets.reshape(len(targets), -1)
    return ~(rows.isnan() if targets.is_floating_point() else rows == NO_LABEL).all(1)


def _first_not_finite(tensor: Tensor) -> float:
    return float(tensor[~tensor.isfinite()].flatten()[0])


def _shown(tensor: Tensor) -> str:
    return str(tensor.tolist() if tensor.numel() <= 8 else f"a tensor {list(tensor.shape)}")
