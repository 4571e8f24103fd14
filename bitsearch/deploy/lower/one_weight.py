"""Layers that have one weight: the program says so, and a file stores it once."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from bitsearch.deploy.integer.packed_layer import LayerNumbers, PackedLayer


def store_once(
    layers: Mapping[str, PackedLayer], numbers: Mapping[str, LayerNumbers], weights: Mapping[str, Tensor]
) -> dict[str, PackedLayer]:
    """The layers, each whose weight is an earlier one's with the name of that one, if their levels are alike.

    They are not where the one is a transposed convolution: its levels stand in another order.
    """
    owners: dict[Tensor, str] = {}
    described = {}
    for name, layer in layers.items():
        owner = owners.setdefault(weights[name], name)
        alike = layer.weight_bits == layers[owner].weight_bits
        alike = alike and np.array_equal(numbers[name].levels, numbers[owner].levels)
        described[name] = layer.model_copy(update={"weight_of": owner}) if owner != name and alike else layer
    return described
