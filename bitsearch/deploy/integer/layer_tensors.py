"""A layer's numbers as tensors: its sum and its affine map, in the narrowest integers that hold them."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from bitsearch.deploy.integer.bounds import integer_type
from bitsearch.deploy.integer.convolution import Convolution
from bitsearch.deploy.integer.packed_layer import LayerNumbers, PackedLayer, exponents
from bitsearch.deploy.integer.rounding import half
from bitsearch.deploy.integer.transposed import TransposedConvolution


class LayerTensors:
    """Made once for all runs of a layer.

    Args:
        layer: its geometry.
        numbers: its tensors in the file.
        accumulator: the most that |A| can be in any run.
    """

    def __init__(self, layer: PackedLayer, numbers: LayerNumbers, accumulator: int) -> None:
        self.layer, self.numbers = layer, numbers
        # Sums that are known to fit 16 bits are twice as fast in them; overflow on the way to one does no harm.
        self.dtype = torch.int16 if accumulator < 1 << 15 else integer_type(accumulator)
        weight = torch.from_numpy(numbers.levels).to(self.dtype)
        self.sum: Callable[[Tensor], Tensor] = partial(functional.linear, weight=weight)
        if layer.kernel:
            kind = Convolution if layer.output_padding is None else TransposedConvolution
            self.sum = kind(layer, weight)
        self._multiplier = torch.from_numpy(numbers.multiplier).long().view(layer.channel_shape)
        self._exponent = None
        if layer.scale is not None:
            self._exponent = torch.from_numpy(exponents(numbers.multiplier)).view(layer.channel_shape)
        self._bias = torch.from_numpy(numbers.bias).view(layer.channel_shape)

    def affine(self, total: Tensor, dtype: torch.dtype) -> Tensor:
        """⌊(A·multiplier + ½·2^shift) / 2^shift⌋ + bias of sums A ``[N, outputs, ...]``, as ``dtype``."""
        scaled = total * self._multiplier if self._exponent is None else total.long() << self._exponent
        scaled += half(self.layer.shift)
        scaled >>= self.layer.shift
        # What fits once the bias is there may wrap around without it.
        return scaled.to(dtype).add_(self._bias)
