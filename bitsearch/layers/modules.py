"""The quantized layers: each a torch layer with the mixin in front of it."""

from torch import Tensor, nn

from bitsearch.layers.quantized import QuantizedLayer


class _QuantizedConv(QuantizedLayer):
    def operation(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution."""
        return self._conv_forward(x, weight, bias)  # type: ignore[operator,no-any-return]  # torch's own


class QuantizedConv1d(_QuantizedConv, nn.Conv1d):
    """:class:`torch.nn.Conv1d` on quantized operands."""

    sample_dims = 2


class QuantizedConv2d(_QuantizedConv, nn.Conv2d):
    """:class:`torch.nn.Conv2d` on quantized operands."""

    sample_dims = 3


class QuantizedConv3d(_QuantizedConv, nn.Conv3d):
    """:class:`torch.nn.Conv3d` on quantized operands."""

    sample_dims = 4


class QuantizedLinear(QuantizedLayer, nn.Linear):
    """:class:`torch.nn.Linear` on quantized operands; the input may have any axes in front of its features."""

    sample_dims = 1

    def operation(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The matrix product."""
        return nn.functional.linear(x, weight, bias)
