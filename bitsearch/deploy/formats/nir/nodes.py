"""Single nodes of NIR, made of parts of a quantized network; shapes are those of one sample at one step.

What a dialect's reader has no node for is written as a convolution or a matrix that computes it.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from bitsearch.deploy.formats.nir.dialects import Dialect, SpikingNeuron
from bitsearch.errors import InputError
from bitsearch.layers import QuantizedLayer
from bitsearch.layers.modules import QuantizedConv1d, QuantizedConv2d, QuantizedLinear

if TYPE_CHECKING:
    import nir

Floats = npt.NDArray[np.float32]


def refused(name: str, reason: str) -> InputError:
    """The error that says why a layer cannot be written."""
    return InputError(f"layer {name!r} cannot be expressed in NIR: {reason}")


def neuron(name: str, layer: QuantizedLayer, shape: tuple[int, ...], dialect: Dialect) -> "nir.NIRNode":
    """The neuron at a layer's input; InputError, which names ``name``, where the dialect has none that fits."""
    spiking = SpikingNeuron.of(layer)
    reason = dialect.refusal(spiking)
    if reason is not None:
        raise refused(name, f"{reason}; --dialect plain has it")
    node = dialect.neuron(spiking, shape)
    node.metadata = {"spike_bits": 1, "time_steps": spiking.time_steps, "reset": spiking.reset}
    return node


def connection(name: str, layer: Any, norm: Any, shape: tuple[int, ...], dialect: Dialect) -> "nir.NIRNode":
    """A layer's quantized weights, its spikes' step and the batch norm behind it multiplied in.

    Raises:
        InputError: another layer than linear ones and zero-padded 1-d and 2-d convolutions; names it.
    """
    import nir

    weight, bias = layer.quantized_weight() * layer.spike_step[0], layer.bias
    linear = isinstance(layer, QuantizedLinear)
    if norm is not None:
        fuse = fuse_linear_bn_weights if linear else fuse_conv_bn_weights
        weight, bias = fuse(weight, bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    if bias is None:
        bias = torch.zeros(weight.shape[0])
    parameters = {"weight": weight.detach().numpy(), "bias": bias.detach().numpy()}
    if linear:
        return nir.Affine(**parameters)
    if not isinstance(layer, QuantizedConv1d | QuantizedConv2d) or layer.padding_mode != "zeros":
        raise refused(name, "only zero-padded 1-d and 2-d convolutions can")
    flat = isinstance(layer, QuantizedConv1d)
    if flat and not dialect.knows("Conv1d"):
        raise refused(name, f"{dialect.reader}'s importer reads no Conv1d; --dialect plain has it")
    setting: dict[str, Any] = {part: getattr(layer, part) for part in ("stride", "padding", "dilation")}
    if flat:
        setting = {part: value[0] if isinstance(value, tuple) else value for part, value in setting.items()}
    make = nir.Conv1d if flat else nir.Conv2d
    parameters["weight"] = _dense(parameters["weight"], layer.groups)
    return make(input_shape=shape[1] if flat else shape[1:], groups=1, **setting, **parameters)


def _dense(weight: Floats, groups: int) -> Floats:
    """A grouped convolution's weight as that of one without groups, zero between groups.

    The nir package (version 1.0) takes a weight's second axis for all input channels, and refuses graphs with groups.
    """
    outputs, inputs, *kernel = weight.shape
    dense = np.zeros((groups, outputs // groups, groups, inputs, *kernel), dtype=weight.dtype)
    for group, rows in enumerate(np.split(weight, groups)):
        dense[group, :, group] = rows
    return dense.reshape(outputs, groups * inputs, *kernel)


def scale(name: str, gain: Floats, shape: tuple[int, ...], dialect: Dialect) -> "nir.NIRNode":
    """A factor of every current; ``gain`` is in a shape that broadcasts to one sample's."""
    import nir

    gains = np.broadcast_to(gain, shape).astype(np.float32)
    if dialect.knows("Scale"):
        return nir.Scale(scale=gains)
    if len(shape) == 1:
        return nir.Affine(weight=np.diag(gains), bias=np.zeros_like(gains))
    channels = gains.reshape(shape[0], -1)
    if len(shape) != 3 or bool((channels != channels[:, :1]).any()):
        raise refused(name, f"{dialect.reader}'s importer reads no Scale; --dialect plain has it")
    return _by_channel(channels[:, 0].reshape(-1, 1, 1), shape[1:], stride=(1, 1), padding=(0, 0))


def pool(
    name: str, module: nn.Module, before: tuple[int, ...], after: tuple[int, ...], dialect: Dialect
) -> "nir.NIRNode":
    """Average pooling of ``before`` to ``after``; InputError for an average that NIR has not."""
    import nir

    if isinstance(module, nn.AvgPool2d):
        padded = module.padding not in (0, (0, 0))
        if module.ceil_mode or module.divisor_override or (padded and not module.count_include_pad):
            raise refused(name, "its average counts other pixels")
        kernel: Any = module.kernel_size
        stride: Any = module.stride
        padding: Any = module.padding
    else:
        if any(size % parts for size, parts in zip(before[1:], after[1:], strict=True)):
            raise refused(name, "its windows differ in size")
        kernel = stride = tuple(size // parts for size, parts in zip(before[1:], after[1:], strict=True))
        padding = 0
    kernel, stride, padding = (_pair(value) for value in (kernel, stride, padding))
    if dialect.knows("AvgPool2d"):
        return nir.AvgPool2d(kernel_size=np.array(kernel), stride=np.array(stride), padding=np.array(padding))
    mean = np.full((before[0], *kernel), 1 / (kernel[0] * kernel[1]), dtype=np.float32)
    return _by_channel(mean, before[1:], stride, padding)


def _by_channel(
    kernels: Floats, size: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int]
) -> "nir.NIRNode":
    """A convolution of every channel by itself, with ``kernels``, ``[C, height, width]``."""
    import nir

    return nir.Conv2d(
        input_shape=size,
        weight=_dense(kernels[:, None], len(kernels)),
        stride=stride,
        padding=padding,
        dilation=(1, 1),
        groups=1,
        bias=np.zeros(len(kernels), dtype=np.float32),
    )


def flatten(name: str, before: tuple[int, ...], after: tuple[int, ...]) -> "nir.NIRNode":
    """All axes as one; InputError if some stay.

    The first is counted from behind: some importers take axes as they are, and have one more in front, the batch.
    """
    import nir

    if len(after) != 1:
        raise refused(name, "it keeps some of its axes")
    return nir.Flatten(input_type={"input": np.array(before)}, start_dim=-len(before), end_dim=-1)


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, tuple | list) else (value, value)
    return int(first), int(second)
