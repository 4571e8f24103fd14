"""A loss that a program has as a torch module, such as ``nn.CrossEntropyLoss(label_smoothing=0.1)``, as settings."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from bitsearch.data.targets import NO_LABEL
from bitsearch.errors import InputError

_NAMES: Mapping[type[nn.Module], str] = {
    nn.CrossEntropyLoss: "cross_entropy",
    nn.BCEWithLogitsLoss: "binary_cross_entropy",
    nn.MSELoss: "mse",
    nn.L1Loss: "l1",
    nn.HuberLoss: "huber",
    nn.SmoothL1Loss: "huber",
}
_SETTINGS: Mapping[str, Callable[[nn.Module], Mapping[str, Any]]] = {
    "cross_entropy": lambda loss: {
        "label_smoothing": loss.label_smoothing,
        "class_weights": None if loss.weight is None else tuple(loss.weight.tolist()),  # type: ignore[operator]  # a tensor
        "ignored_label": loss.ignore_index,
    }
}
"""Fields of ``[task]`` by a loss's name."""
DEFAULTS: Mapping[str, Any] = {"label_smoothing": 0.0, "class_weights": None, "ignored_label": NO_LABEL}
"""Fields of ``[task]`` that such an object decides, and what they are where it says nothing."""


def criterion_settings(loss: object) -> dict[str, Any] | None:
    """The fields of ``[task]`` for one of torch's losses, a module or its class; None for anything else.

    A run that goes on makes the loss anew from them, which no object of a program allows.

    Raises:
        InputError: a loss of torch's that no settings stand for, or another one as a module.
    """
    if isinstance(loss, type) and issubclass(loss, nn.Module):
        try:
            loss = loss()
        except TypeError:
            return None
    if not isinstance(loss, nn.Module):
        return None
    kind = type(loss)
    advice = "give a function (outputs, targets) of your own, at the top of a module"
    if kind not in _NAMES:
        known = ", ".join(f"nn.{known.__name__}" for known in _NAMES)
        raise InputError(f"loss {kind.__name__} is a module, which no settings stand for; known: {known}; or {advice}")
    odd = [
        f"{name}={value}"
        for name, value, allowed in (
            ("reduction", loss.reduction, ("mean", "none")),
            ("delta", getattr(loss, "delta", 1.0), (1.0,)),
            ("beta", getattr(loss, "beta", 1.0), (1.0,)),
            ("pos_weight", getattr(loss, "pos_weight", None), (None,)),
            ("weight", None if kind is nn.CrossEntropyLoss else getattr(loss, "weight", None), (None,)),
        )
        if not any(value is one or (isinstance(value, float | str) and value == one) for one in allowed)
    ]
    if odd:
        raise InputError(f"loss {kind.__name__} has {odd[0]}, which no setting stands for; leave it out, or {advice}")
    name = _NAMES[kind]
    fields = _SETTINGS.get(name, lambda loss: {})(loss)
    return {"loss": name} | {key: value for key, value in fields.items() if value != DEFAULTS[key]}
