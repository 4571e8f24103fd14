"""Single nodes of NIR, made of parts of a quantized network; shapes are those of one sample at one step."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from bitsearch.errors import InputError
from bitsearch.layers import QuantizedLayer
from bitsearch.layers.modules import QuantizedConv1d, QuantizedConv2d, QuantizedLinear
from bitsearch.plan import NeuronSettings

if TYPE_CHECKING:
    import nir

DT = 1e-4
"""Seconds a step, as NIR's other writers have it."""


def neuron(layer: QuantizedLayer, shape: tuple[int, ...]) -> "nir.NIRNode":
    """The neuron at a layer's input: ``IF``, ``LIF``, or with a single step ``Threshold``."""
    import nir

    settings = layer.neuron or NeuronSettings()
    step = float(layer.spike_step[0])
    # The membrane is higher by this than the layer's, so that its threshold is a whole step.
    offset = step / 2 if settings.threshold == "half" else 0.0
    # NIR's neurons fire above their threshold; one that fires at it is above the number before.
    fires_at = settings.threshold == "full" and not settings.strict
    threshold = float(np.nextafter(np.float32(step), np.float32(0))) if fires_at else step

    def constant(value: float) -> np.ndarray:
        return np.full(shape, value, dtype=np.float32)

    if layer.active_steps == 1:
        return nir.Threshold(threshold=constant(threshold - offset))
    if layer.decay == 1:
        return nir.IF(r=constant(1 / DT), v_threshold=constant(threshold), v_reset=constant(offset))
    tau = DT / (1 - layer.decay)
    return nir.LIF(
        tau=constant(tau),
        r=constant(tau / DT),
        v_leak=constant(offset),
        v_threshold=constant(threshold),
        v_reset=constant(offset),
    )


def connection(name: str, layer: Any, norm: Any, shape: tuple[int, ...]) -> "nir.NIRNode":
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
        raise InputError(f"layer {name!r} cannot be expressed in NIR: only zero-padded 1-d and 2-d convolutions can")
    flat = isinstance(layer, QuantizedConv1d)
    setting: dict[str, Any] = {part: getattr(layer, part) for part in ("stride", "padding", "dilation")}
    if flat:
        setting = {part: value[0] if isinstance(value, tuple) else value for part, value in setting.items()}
    make = nir.Conv1d if flat else nir.Conv2d
    parameters["weight"] = _dense(parameters["weight"], layer.groups)
    return make(input_shape=shape[1] if flat else shape[1:], groups=1, **setting, **parameters)


def _dense(weight: "npt.NDArray[np.float32]", groups: int) -> "npt.NDArray[np.float32]":
    """A grouped convolution's weight as that of one without groups, zero between groups.

    The nir package (version 1.0) takes a weight's second axis for all input channels, and refuses graphs with groups.
    """
    outputs, inputs, *kernel = weight.shape
    dense = np.zeros((groups, outputs // groups, groups, inputs, *kernel), dtype=weight.dtype)
    for group, rows in enumerate(np.split(weight, groups)):
        dense[group, :, group] = rows
    return dense.reshape(outputs, groups * inputs, *kernel)


def scale(gain: "npt.NDArray[np.float32]", shape: tuple[int, ...]) -> "nir.NIRNode":
    """A factor of every current; ``gain`` is in a shape that broadcasts to one sample's."""
    import nir

    return nir.Scale(scale=np.broadcast_to(gain, shape).astype(np.float32))


def pool(name: str, module: nn.Module, before: tuple[int, ...], after: tuple[int, ...]) -> "nir.NIRNode":
    """Average pooling of ``before`` to ``after``, heights and widths; InputError for an average that NIR has not."""
    import nir

    if isinstance(module, nn.AvgPool2d):
        padded = module.padding not in (0, (0, 0))
        if module.ceil_mode or module.divisor_override or (padded and not module.count_include_pad):
            raise InputError(f"layer {name!r} cannot be expressed in NIR: its average counts other pixels")
        kernel: Any = module.kernel_size
        stride: Any = module.stride
        padding: Any = module.padding
    else:
        if any(size % parts for size, parts in zip(before, after, strict=True)):
            raise InputError(f"layer {name!r} cannot be expressed in NIR: its windows differ in size")
        kernel = stride = tuple(size // parts for size, parts in zip(before, after, strict=True))
        padding = 0
    return nir.AvgPool2d(kernel_size=_pair(kernel), stride=_pair(stride), padding=_pair(padding))


def flatten(name: str, before: tuple[int, ...], after: tuple[int, ...]) -> "nir.NIRNode":
    """All axes as one; InputError if some stay."""
    import nir

    if len(after) != 1:
        raise InputError(f"layer {name!r} cannot be expressed in NIR: it keeps some of its axes")
    return nir.Flatten(input_type={"input": np.array(before)}, start_dim=0, end_dim=-1)


def _pair(value: Any) -> np.ndarray:
    return np.array(value if isinstance(value, tuple | list) else (value, value))
