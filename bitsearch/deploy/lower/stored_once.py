"""Layers that have one weight, or the step sizes of one stream: the program says so, and a file stores them once."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from bitsearch.deploy.integer.packed_layer import LayerNumbers, PackedLayer
from bitsearch.layers import QuantizedLayer


def store_once(
    layers: Mapping[str, PackedLayer], numbers: Mapping[str, LayerNumbers], modules: Mapping[str, QuantizedLayer]
) -> dict[str, PackedLayer]:
    """The layers, each with the name of the earlier one that has its weight, or its step sizes, if integers are alike.

    Levels are not where the one is a transposed convolution: they stand in another order.
    """
    weights: dict[Tensor, str] = {}
    steps: dict[Tensor, str] = {}
    described = {}
    for name, layer in layers.items():
        sharing: dict[str, str] = {}
        owner = weights.setdefault(modules[name].weight, name)
        if owner != name and _one_weight(layer, numbers[name], layers[owner], numbers[owner]):
            sharing["weight_of"] = owner
        owner = steps.setdefault(modules[name].spike_log_step, name)
        if owner != name and _one_stream(layer, numbers[name], layers[owner], numbers[owner]):
            sharing["steps_of"] = owner
        described[name] = layer.model_copy(update=sharing)
    return described


def _one_weight(layer: PackedLayer, numbers: LayerNumbers, other: PackedLayer, other_numbers: LayerNumbers) -> bool:
    return layer.weight_bits == other.weight_bits and np.array_equal(numbers.levels, other_numbers.levels)


def _one_stream(layer: PackedLayer, numbers: LayerNumbers, other: PackedLayer, other_numbers: LayerNumbers) -> bool:
    alike = (layer.step_fraction, layer.step_sizes) == (other.step_fraction, other.step_sizes)
    return alike and np.array_equal(numbers.steps, other_numbers.steps)
