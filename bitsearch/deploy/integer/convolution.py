"""Convolutions of integers as matrix products: torch's own are slow on them, and have no dilation."""

from collections.abc import Iterator

from torch import Tensor
from torch.nn import functional

from bitsearch.deploy.integer.packed_layer import PackedLayer

_AT_ONCE = 1 << 18
"""Elements of the windows that are laid out at a time: a megabyte of int32, whatever a file asks for."""


class Convolution:
    """A layer's convolution (1-d or 2-d, zero padding), in the integer type of its weight.

    Args:
        layer: its geometry.
        weight: ``[outputs, inputs / groups, *kernel]``.
    """

    def __init__(self, layer: PackedLayer, weight: Tensor) -> None:
        self._flat, self._groups = len(layer.kernel) == 1, layer.groups
        ones = (1,) * self._flat
        self._kernel, self._stride, self._dilation = (
            (*ones, *pair) for pair in (layer.kernel, layer.stride, layer.dilation)
        )
        self._padding = (*(0,) * self._flat, *layer.padding)
        # By group, as a window is laid out: [groups, outputs / groups, kh·kw·inputs / groups].
        self._weight = weight.movedim(1, -1).reshape(layer.groups, layer.outputs // layer.groups, -1).contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, outputs, H', W']``, or both without H; channels are last in memory."""
        windows = self._windows(x.unsqueeze(-2) if self._flat else x)
        samples, height, width = windows.shape[:3]
        groups, outputs = self._weight.shape[:2]
        sums = x.new_empty(samples, height, width, groups, outputs)
        for block, rows in _blocks(samples, height, windows[0, 0].numel()):
            matrix = windows[block, rows].reshape(-1, groups, self._weight.shape[2])
            for group, weight in enumerate(self._weight):
                sums[block, rows, :, group] = (matrix[:, group] @ weight.T).view(*windows[block, rows].shape[:3], -1)
        result = sums.flatten(3).permute(0, 3, 1, 2)
        return result.squeeze(-2) if self._flat else result

    def _windows(self, x: Tensor) -> Tensor:
        """``[N, H', W', groups, kh, kw, C / groups]``, a view of the padded input."""
        pad_height, pad_width = self._padding
        padded = functional.pad(
            x.permute(0, 2, 3, 1), (0, 0, pad_width, pad_width, pad_height, pad_height)
        ).contiguous()
        samples, *sizes, channels = padded.shape
        units = (sizes[1] * channels, channels)
        counts = [
            (size - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, dilation in zip(sizes, self._kernel, self._stride, self._dilation, strict=True)
        ]
        inputs = channels // self._groups
        steps = [stride * unit for stride, unit in zip(self._stride, units, strict=True)]
        taps = [dilation * unit for dilation, unit in zip(self._dilation, units, strict=True)]
        return padded.as_strided(
            (samples, *counts, self._groups, *self._kernel, inputs),
            (sizes[0] * units[0], *steps, inputs, *taps, 1),
        )


def _blocks(samples: int, height: int, row: int) -> Iterator[tuple[slice, slice]]:
    """Samples and rows that are done at a time: several samples, or some rows of one."""
    rows = max(_AT_ONCE // row, 1)
    samples_at_once = max(rows // height, 1)
    for first_sample in range(0, samples, samples_at_once):
        for first_row in range(0, height, rows):
            yield slice(first_sample, first_sample + samples_at_once), slice(first_row, first_row + rows)
