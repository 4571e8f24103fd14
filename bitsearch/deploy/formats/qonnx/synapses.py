"""A layer's convolution or product of whole numbers as a node, for either kind of graph."""

from typing import Any

import numpy as np
import numpy.typing as npt

from bitsearch.deploy.formats.qonnx.graph import GraphBuilder
from bitsearch.deploy.integer.packed_layer import PackedLayer


def weighted_sum(graph: GraphBuilder, layer: PackedLayer, x: str, weight: str) -> str:
    """The sums of ``x`` over a weight that lies as :func:`in_onnx_layout` says."""
    if not layer.kernel:
        return graph.node("MatMul", x, weight)
    settings: dict[str, Any] = {
        "kernel_shape": list(layer.kernel),
        "strides": list(layer.stride),
        "pads": list(layer.padding) * 2,
        "dilations": list(layer.dilation),
        "group": layer.groups,
    }
    if layer.output_padding is None:
        return graph.node("Conv", x, weight, **settings)
    return graph.node("ConvTranspose", x, weight, output_padding=list(layer.output_padding), **settings)


def in_onnx_layout(layer: PackedLayer, levels: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Levels ``[outputs, inputs / groups, *kernel]`` as the operator takes them."""
    if not layer.kernel:
        return levels.T
    if layer.output_padding is None:
        return levels
    outputs, inputs, *kernel = levels.shape
    by_group = levels.reshape(layer.groups, outputs // layer.groups, inputs, *kernel)
    return np.swapaxes(by_group, 1, 2).reshape(layer.groups * inputs, outputs // layer.groups, *kernel)
