"""The quantized transposed convolutions, whose weights have their input channels first."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from bitsearch.layers.quantized import QuantizedLayer


class _QuantizedConvTranspose(QuantizedLayer):
    convolve: Callable[..., Tensor]
    groups: int
    output_size: Sequence[int] | None = None
    """Of the last call, as torch takes it: which of the sizes that a stride leaves open is meant."""

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """As :meth:`QuantizedLayer.forward`; ``output_size`` as for the torch layer, its last axes alone counting."""
        if output_size != self.output_size:
            self.calls.result = None
        self.output_size = output_size
        return super().forward(x)

    def operation(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The transposed convolution."""
        layer: Any = self
        axes = self.sample_dims - 1
        size = None if self.output_size is None else list(self.output_size[-axes:])
        padding = layer._output_padding(x, size, layer.stride, layer.padding, layer.kernel_size, axes, layer.dilation)
        return self.convolve(x, weight, bias, layer.stride, layer.padding, padding, self.groups, layer.dilation)

    def output_first(self, weight: Tensor) -> Tensor:
        """``[inputs, outputs / groups, ...]`` to ``[outputs, inputs / groups, ...]``."""
        return _exchanged(weight, self.groups)

    def in_layout(self, weight: Tensor) -> Tensor:
        """The reverse of :meth:`output_first`."""
        return _exchanged(weight, self.groups)


def _exchanged(weight: Tensor, groups: int) -> Tensor:
    """``[groups·a, b, ...]`` to ``[groups·b, a, ...]``, group by group."""
    result: Tensor = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    return result


class QuantizedConvTranspose1d(_QuantizedConvTranspose, nn.ConvTranspose1d):
    """:class:`torch.nn.ConvTranspose1d` on quantized operands."""

    sample_dims = 2
    convolve = staticmethod(functional.conv_transpose1d)


class QuantizedConvTranspose2d(_QuantizedConvTranspose, nn.ConvTranspose2d):
    """:class:`torch.nn.ConvTranspose2d` on quantized operands."""

    sample_dims = 3
    convolve = staticmethod(functional.conv_transpose2d)


class QuantizedConvTranspose3d(_QuantizedConvTranspose, nn.ConvTranspose3d):
    """:class:`torch.nn.ConvTranspose3d` on quantized operands."""

    sample_dims = 4
    convolve = staticmethod(functional.conv_transpose3d)
