"""How many windows of a convolution or pooling there are, which is the shape of its result."""

from math import prod

from bitsearch.errors import InputError


def window_counts(
    name: str,
    shape: tuple[int, ...],
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    most_elements: int,
) -> tuple[int, ...]:
    """``shape``, ``[C, L]`` or ``[C, H, W]``, with the number of windows along each of its last axes.

    Raises:
        InputError: another number of axes, a window larger than its padded input, or a padded input of more than
            ``most_elements``; names the operation.
    """
    if len(shape) != len(kernel) + 1 or {len(stride), len(padding), len(dilation)} != {len(kernel)}:
        raise InputError(f"{name}: windows over {len(kernel)} axes do not fit an input of shape {shape}")
    counts = []
    for length, size, step, pad, spread in zip(shape[1:], kernel, stride, padding, dilation, strict=True):
        span = length + 2 * pad - spread * (size - 1) - 1
        if span < 0:
            raise InputError(f"{name}: a window of {size} (dilation {spread}) is larger than its padded input")
        counts.append(span // step + 1)
    padded = shape[0] * prod(length + 2 * pad for length, pad in zip(shape[1:], padding, strict=True))
    if padded > most_elements:
        raise InputError(f"{name}: {padded} currents for one input once it is padded; at most {most_elements}")
    return (shape[0], *counts)
