"""What a layer does with spikes: bounds of its sums and outputs, their shape, its affine map, and its frames."""

import numpy as np
import torch
from torch import Tensor

from bitsearch.deploy.integer.bounds import check_width
from bitsearch.deploy.integer.operations.windows import window_counts
from bitsearch.deploy.integer.packed_layer import LayerNumbers, PackedLayer, accumulator_bound
from bitsearch.deploy.integer.rounding import half, rounded
from bitsearch.deploy.integer.transposed import spread_counts
from bitsearch.errors import InputError
from bitsearch.quant.frames import hold_frames


def sum_bounds(name: str, layer: PackedLayer, numbers: LayerNumbers, largest: int) -> tuple[int, int]:
    """(bound on A, on its products) for spikes of ±``largest``; InputError, naming the run, if they are too wide."""
    accumulator = accumulator_bound(numbers, largest)
    check_width(name, accumulator)
    factor = int(np.abs(numbers.multiplier.astype(np.int64)).max(initial=0))
    product = accumulator * factor + half(layer.shift)
    check_width(name, product)
    return accumulator, product


def output_bounds(layer: PackedLayer, numbers: LayerNumbers, low: int, high: int) -> tuple[int, int]:
    """The least and the largest output for spikes from ``low`` ≤ 0 to ``high`` ≥ 0."""
    levels = numbers.levels.reshape(layer.outputs, -1).astype(np.int64)
    positive, negative = np.clip(levels, 0, None).sum(1), np.clip(levels, None, 0).sum(1)
    multiplier, bias = numbers.multiplier.astype(np.int64), numbers.bias.astype(np.int64)
    ends = np.stack([positive * high + negative * low, positive * low + negative * high]) * multiplier
    outputs = ((ends + half(layer.shift)) >> layer.shift) + bias
    return int(outputs.min()), int(outputs.max())


def output_shape(name: str, layer: PackedLayer, shape: tuple[int, ...], most_elements: int) -> tuple[int, ...]:
    """Of one frame; InputError, naming the run, for an input that does not fit."""
    channels = layer.weight_shape[1] * layer.groups
    axis = 0 if layer.kernel else -1
    if shape[axis] != channels:
        raise InputError(f"{name}: an input of shape {shape} has {shape[axis]} channels, not {channels}")
    if not layer.kernel:
        return (*shape[:-1], layer.outputs)
    if layer.output_padding is not None:
        return (layer.outputs, *spread_counts(name, shape, layer, layer.output_padding, most_elements))
    counts = window_counts(
        name,
        shape,
        kernel=layer.kernel,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        most_elements=most_elements,
    )
    return (layer.outputs, *counts[1:])


def affine_float64(sums: Tensor, layer: PackedLayer, numbers: LayerNumbers, fraction: int = 0) -> Tensor:
    """The layer's output for float64 sums ``[N, outputs, ...]``, whose whole numbers are A·2^−``fraction``."""
    multiplier = torch.from_numpy(numbers.multiplier).double() * 2.0 ** (fraction - layer.shift - layer.fraction)
    bias = torch.from_numpy(numbers.bias).double() * 2.0**-layer.fraction
    scaled = sums * multiplier.view(layer.channel_shape)
    return rounded(scaled, layer.fraction) + bias.view(layer.channel_shape)


def held(results: Tensor, layer: PackedLayer) -> Tensor:
    """``[T·N, ...]`` of a layer with frames as ``[F·N, ...]``, every result held over its frames."""
    if layer.frames is None:
        return results
    return hold_frames(results.unflatten(0, (layer.time_steps, -1)), layer.frames).flatten(0, 1)
