"""What Akida computes, by its documented formula: integer sums, their largest, comparisons with whole thresholds."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bitsearch.deploy.formats.akida.layers import AkidaLayer, AkidaNetwork
from bitsearch.deploy.integer.layer_tensors import LayerTensors
from bitsearch.deploy.integer.packed_layer import accumulator_bound


@dataclass(frozen=True)
class Replayed:
    """Of one batch."""

    activations: Mapping[str, Tensor]
    """By :attr:`.AkidaLayer.sender`, int64 ``[N, C, H, W]``, or ``[N, C]`` of a matrix."""
    sums: Tensor
    """Of the last layer, int64 ``[N, C, H, W]``, or ``[N, C]`` of a matrix."""


def replay(network: AkidaNetwork, codes: Tensor, *, exact: bool = False) -> Replayed:
    """Run the layers.

    Args:
        network: from :func:`.akida_network`.
        codes: the integers that the host makes of samples, ``[N, ...]``, without the offset.
        exact: with the thresholds of the packed network, in the place of the nearest that Akida has.
    """
    activations: dict[str, Tensor] = {}
    for layer in network.layers:
        largest = int(codes.abs().max()) if codes.numel() else 0
        tensors = LayerTensors(layer.layer, layer.numbers, accumulator_bound(layer.numbers, largest))
        sums = tensors.sum(codes.reshape(-1, *layer.input_shape).to(tensors.dtype)).long()
        if layer.pool is not None:
            sums = functional.max_pool2d(sums, layer.pool.kernel, layer.pool.stride, layer.pool.padding)
        if layer.activation is None or layer.sender is None:
            return Replayed(activations, sums)
        codes = _codes(sums, layer, exact=exact)
        activations[layer.sender] = codes
    raise AssertionError("a chain ends in sums")


def _codes(sums: Tensor, layer: AkidaLayer, *, exact: bool) -> Tensor:
    assert layer.activation is not None
    assert layer.exact is not None
    levels = layer.exact.levels if exact else torch.from_numpy(layer.activation.levels)
    shaped = levels.view(len(levels), 1, layer.layer.outputs, *[1] * (sums.dim() - 2))
    return (sums >= shaped).sum(0)


def logits(network: AkidaNetwork, sums: Tensor) -> Tensor:
    """The real numbers that the last layer's sums stand for, float64 ``[N, outputs, ...]``; averaged where they are."""
    last = network.layers[-1]
    scale = torch.from_numpy(last.numbers.multiplier).double() * 2.0 ** -(last.layer.shift + last.layer.fraction)
    bias = torch.from_numpy(last.numbers.bias).double() * 2.0**-last.layer.fraction
    axes = (-1, *[1] * (sums.dim() - 2))
    outputs = sums.double() * scale.view(axes) + bias.view(axes)
    return outputs.mean((-2, -1)) if last.averaged else outputs
