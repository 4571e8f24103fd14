"""Transposed convolutions of integers, as convolutions of the input with zeros between its values."""

from math import prod

from torch import Tensor
from torch.nn import functional

from bitsearch.deploy.integer.convolution import Convolution
from bitsearch.deploy.integer.packed_layer import PackedLayer
from bitsearch.errors import InputError


def spread_counts(
    name: str, shape: tuple[int, ...], layer: PackedLayer, output_padding: tuple[int, ...], most_elements: int
) -> tuple[int, ...]:
    """Sizes of a transposed convolution's result along the last axes of ``shape``, ``[C, L]`` or ``[C, H, W]``.

    Raises:
        InputError: another number of axes, nothing left between the paddings, or more than ``most_elements`` on the
            way; names the operation.
    """
    if len(shape) != len(layer.kernel) + 1:
        raise InputError(f"{name}: a kernel of {len(layer.kernel)} axes does not fit an input of shape {shape}")
    counts, spread = [], []
    for axis, (length, extra) in enumerate(zip(shape[1:], output_padding, strict=True)):
        stuffed, before, after, reach = _placement(layer, axis, length, extra)
        counts.append(stuffed + before + after - reach)
        spread.append(stuffed + max(before, 0) + max(after, 0))
    if min(counts) < 1:
        raise InputError(f"{name}: the padding crops all of the result of an input of shape {shape}")
    elements = shape[0] * prod(spread)
    if elements > most_elements:
        raise InputError(f"{name}: {elements} currents for one input once it is spread; at most {most_elements}")
    return tuple(counts)


def _placement(layer: PackedLayer, axis: int, length: int, extra: int) -> tuple[int, int, int, int]:
    """(length with zeros in between, zeros before and behind, cropped where negative, reach of the kernel)."""
    reach = layer.dilation[axis] * (layer.kernel[axis] - 1)
    before = reach - layer.padding[axis]
    return (length - 1) * layer.stride[axis] + 1, before, before + extra, reach


class TransposedConvolution:
    """A layer's transposed convolution (1-d or 2-d), in the integer type of its weight.

    Args:
        layer: its geometry, with ``output_padding``.
        weight: ``[outputs, inputs / groups, *kernel]``.
    """

    def __init__(self, layer: PackedLayer, weight: Tensor) -> None:
        self._layer = layer
        axes = len(layer.kernel)
        plain = {"stride": (1,) * axes, "padding": (0,) * axes, "output_padding": None}
        self._convolution = Convolution(layer.model_copy(update=plain), weight.flip(*range(2, 2 + axes)))

    def __call__(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, outputs, H', W']``, or both without H; channels are last in memory."""
        layer = self._layer
        assert layer.output_padding is not None
        for axis, extra in enumerate(layer.output_padding):
            stuffed, before, after, _ = _placement(layer, axis, x.shape[axis + 2], extra)
            spread = x.new_zeros(*x.shape[: axis + 2], stuffed, *x.shape[axis + 3 :])
            spread[(slice(None),) * (axis + 2) + (slice(None, None, layer.stride[axis]),)] = x
            ends = [0, 0] * (x.dim() - axis - 3) + [max(before, 0), max(after, 0)]
            x = functional.pad(spread, ends).narrow(axis + 2, max(-before, 0), stuffed + before + after)
        return self._convolution(x)
