"""The shape of a layer, which chips limit: its kind, kernel, stride, channels, and how many neurons meet in one."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

from torch import nn

from bitsearch.cost.target_tables import LayerKind

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class LayerShape:
    """Of a convolution, plain or transposed, or of a linear layer, whose features are channels."""

    kind: LayerKind
    in_channels: int
    out_channels: int
    groups: int = 1
    kernel: tuple[int, ...] = ()
    """Along every spatial axis; empty of a linear layer, as the next two are."""
    stride: tuple[int, ...] = ()
    input_size: tuple[int, ...] = ()
    """Of the input, without batch, time and channels."""

    @property
    def fan_in(self) -> int:
        """Inputs that one output is the sum of, away from the edges.

        C_in/groups·∏k of a convolution with kernel k; C_in/groups·∏⌈k/s⌉ of a transposed one with stride s.
        """
        return self.in_channels // self.groups * self._taps(self.kind == "transposed")

    @property
    def addends(self) -> int:
        """Weights that one output has, and so the most products that are added up: C_in/groups·∏k."""
        inputs = self.in_channels // self.groups
        return inputs * prod(self.kernel)

    @property
    def fan_out(self) -> int:
        """Outputs that one input goes into, away from the edges: as :attr:`fan_in`, the other way round."""
        return self.out_channels // self.groups * self._taps(self.kind != "transposed")

    def _taps(self, strided: bool) -> int:
        strides = self.stride if strided else (1,) * len(self.kernel)
        return prod(ceil(size / stride) for size, stride in zip(self.kernel, strides, strict=True))


def shape_of_layer(layer: nn.Module, input_shape: Sequence[int]) -> LayerShape | None:
    """The shape of a layer called with an input of this shape, batch and all; None of other modules."""
    if isinstance(layer, nn.Linear):
        return LayerShape("linear", layer.in_features, layer.out_features)
    if not isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)):
        return None
    kind: LayerKind = "transposed" if isinstance(layer, _TRANSPOSED) else "convolution"
    if kind == "convolution" and 1 < layer.groups == layer.in_channels:
        kind = "depthwise"
    axes = len(layer.kernel_size)
    return LayerShape(
        kind,
        layer.in_channels,
        layer.out_channels,
        layer.groups,
        tuple(layer.kernel_size),
        tuple(layer.stride),
        tuple(input_shape[-axes:]) if len(input_shape) > axes else (),
    )
