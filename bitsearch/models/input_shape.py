"""Shapes of network inputs: checks, and the layers that accept each shape."""

from typing import Any

from spikingjelly.activation_based import functional, layer
from torch import nn

from bitsearch.errors import InputError
from bitsearch.network_inputs import InputShape, normal_shape, shapes_in

IMAGE = ("C", "H", "W")
"""Batches are ``[N, C, H, W]``."""
FRAMES = ("T", "C", "H", "W")
"""Event data; batches are time first, ``[T, N, C, H, W]``."""
FEATURES = ("T", "features")
"""Event data without a plane; batches are ``[T, N, features]``."""


def check_input_shape(network: str, input_shape: InputShape, *layouts: tuple[str, ...], least_side: int = 1) -> None:
    """Raise InputError unless ``input_shape`` has the axes of one of ``layouts``, H and W at least ``least_side``."""
    shapes, given = shapes_in(input_shape), normal_shape(input_shape)
    input_shape = shapes[0]
    axes = next((axes for axes in layouts if len(shapes) == 1 and len(axes) == len(input_shape)), ())
    least_sizes = {"H": least_side, "W": least_side}
    if not axes or any(size < least_sizes.get(axis, 1) for axis, size in zip(axes, input_shape, strict=True)):
        forms = " or ".join(f"({', '.join(axes)})" for axes in layouts)
        sides = f", H and W at least {least_side}" if least_side > 1 else ""
        raise InputError(
            f"network {network!r} takes inputs of shape {forms}{sides}; given: {given}; "
            "choose data that have it, or another network"
        )


def check_whole(network: str, **options: object) -> None:
    """Raise InputError unless every option is a whole number above zero."""
    for name, value in options.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"network {network!r}: {name} is {value!r}; give a whole number of at least 1")


def layers_for(input_shape: tuple[int, ...]) -> Any:
    """The namespace to take layers from: ``torch.nn`` for images, spikingjelly's ``layer`` for :data:`FRAMES`."""
    return layer if len(input_shape) == len(FRAMES) else nn


def time_first(network: nn.Module, input_shape: tuple[int, ...]) -> nn.Module:
    """``network``, its spikingjelly layers in multi-step mode (``[T, N, ...]``) if the input is not an image."""
    if len(input_shape) != len(IMAGE):
        functional.set_step_mode(network, "m")
    return network
