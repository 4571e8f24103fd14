"""What modules and functions of a traced network become: operations of the closed set, one table for each kind."""

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from math import frexp
from typing import Any

import torch
from torch import nn
from torch.fx import Node
from torch.nn import functional

from bitsearch.deploy.integer.program import Add, AveragePool, Concatenate, MaxPool, Operation, Relu, Reshape, Scale
from bitsearch.errors import InputError
from bitsearch.layers.neurons import InputCurrent


@dataclass
class Values:
    """What is known of a graph's tensors while it is lowered, by node."""

    shapes: dict[Node, tuple[int, ...]]
    """Batch axis first."""
    of: dict[Node, int] = field(default_factory=dict)
    """The program's value."""

    def input(self, node: Node) -> tuple[int]:
        """The value of the first tensor that a node reads."""
        return (next(self.of[given] for given in node.all_input_nodes if given in self.shapes),)


Make = Callable[[Values, Node, dict[str, Any]], Operation]
"""Makes the operation that a node is, given the settings of its module or call."""


def _relu(values: Values, node: Node, setting: dict[str, Any]) -> Operation:
    return Relu(name=node.name, inputs=values.input(node))


def _scale(values: Values, node: Node, setting: dict[str, Any]) -> Operation:
    gain = setting["gain"]
    if not 2.0**-32 < gain < 2.0**32:
        raise InputError(f"{node.target} multiplies its input by {gain:g}; deployed gains are 2^-32 to 2^32")
    # gain = multiplier·2^(exponent − 16); a multiplier of few bits needs no rounding.
    mantissa, exponent = frexp(gain)
    multiplier = round(mantissa * 2**16)
    even = (multiplier & -multiplier).bit_length() - 1
    multiplier, shift = multiplier >> even, 16 - even
    # What is no power of two is rounded where it was: a current keeps its bits.
    kept = shift if multiplier > 1 else 0
    return Scale(
        name=node.name, inputs=values.input(node), multiplier=multiplier, shift=kept, finer=shift - kept - exponent
    )


def _add(values: Values, node: Node, setting: dict[str, Any]) -> Operation:
    if setting.get("alpha", 1) not in (1, None) or not all(isinstance(given, Node) for given in node.args[:2]):
        raise InputError(f"{node.name} adds something else than two tensors as they are, which cannot be deployed")
    left, right = (values.of[given] for given in node.args[:2])  # type: ignore[index]
    return Add(name=node.name, inputs=(left, right))


def _concatenate(values: Values, node: Node, setting: dict[str, Any]) -> Operation:
    given = node.args[0] if node.args else node.kwargs["tensors"]
    rank = len(values.shapes[node])
    if setting["dim"] not in (1, 1 - rank):
        raise InputError(
            f"{node.name} concatenates along axis {setting['dim']}; only axis 1, the channels, is deployed"
        )
    return Concatenate(name=node.name, inputs=tuple(values.of[one] for one in given))  # type: ignore


def _reshape(values: Values, node: Node, setting: dict[str, Any]) -> Operation:
    before, after = values.shapes[node.all_input_nodes[0]], values.shapes[node]
    if before[0] != after[0] or len(after) < 2:
        raise InputError(f"{node.name} reshapes {before} to {after}; the batch axis must stay the first")
    return Reshape(name=node.name, inputs=values.input(node), shape=after[1:])


def _max_pool(values: Values, node: Node, setting: dict[str, Any]) -> Operation:
    axes = len(values.shapes[node]) - 2
    _refuse(node, setting, "ceil_mode", "return_indices")
    return MaxPool(
        name=node.name,
        inputs=values.input(node),
        kernel=_each(setting["kernel_size"], axes),
        stride=_each(setting["stride"] or setting["kernel_size"], axes),
        padding=_each(setting["padding"], axes),
        dilation=_each(setting["dilation"], axes),
    )


def _average_pool(values: Values, node: Node, setting: dict[str, Any]) -> Operation:
    axes = len(values.shapes[node]) - 2
    _refuse(node, setting, "ceil_mode", "divisor_override")
    padding = _each(setting["padding"], axes)
    if any(padding) and setting["count_include_pad"] is False:
        raise InputError(f"{node.name}: average pooling with count_include_pad=False and padding cannot be deployed")
    return AveragePool(
        name=node.name,
        inputs=values.input(node),
        kernel=_each(setting["kernel_size"], axes),
        stride=_each(setting["stride"] or setting["kernel_size"], axes),
        padding=padding,
    )


def _adaptive_pool(values: Values, node: Node, setting: dict[str, Any]) -> Operation:
    before, after = values.shapes[node.all_input_nodes[0]][2:], values.shapes[node][2:]
    if any(size % parts for size, parts in zip(before, after, strict=True)):
        raise InputError(f"{node.name} pools {before} adaptively to {after}; deployed windows are all of one size")
    kernel = tuple(size // parts for size, parts in zip(before, after, strict=True))
    return AveragePool(
        name=node.name, inputs=values.input(node), kernel=kernel, stride=kernel, padding=(0,) * len(kernel)
    )


def _each(value: Any, axes: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * axes


def _refuse(node: Node, setting: dict[str, Any], *names: str) -> None:
    for name in names:
        if setting.get(name):
            raise InputError(f"{node.name}: pooling with {name} cannot be deployed")


_MAX = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVERAGE = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
DEFAULTS: dict[str, Any] = {"padding": 0, "dilation": 1, "count_include_pad": True, "dim": 0, "alpha": 1}
"""Of arguments that a call leaves out."""
MODULES: dict[type[nn.Module], tuple[Make, tuple[str, ...]]] = {
    nn.ReLU: (_relu, ("inplace",)),
    InputCurrent: (_scale, ("gain",)),
    nn.MaxPool1d: (_max_pool, _MAX),
    nn.MaxPool2d: (_max_pool, _MAX),
    nn.AvgPool1d: (_average_pool, _AVERAGE),
    nn.AvgPool2d: (_average_pool, (*_AVERAGE, "divisor_override")),
    nn.AdaptiveAvgPool1d: (_adaptive_pool, ()),
    nn.AdaptiveAvgPool2d: (_adaptive_pool, ()),
    nn.Flatten: (_reshape, ()),
}
"""What a module becomes, and the attributes that say how."""

CALLS: dict[Any, tuple[Make, tuple[str, ...]]] = {
    functional.relu: (_relu, ("inplace",)),
    torch.relu: (_relu, ()),
    "relu": (_relu, ()),
    functional.max_pool2d: (_max_pool, _MAX),
    torch.max_pool2d: (_max_pool, _MAX[:5]),
    functional.max_pool1d: (_max_pool, _MAX),
    functional.avg_pool2d: (_average_pool, (*_AVERAGE, "divisor_override")),
    functional.avg_pool1d: (_average_pool, _AVERAGE),
    functional.adaptive_avg_pool2d: (_adaptive_pool, ("output_size",)),
    functional.adaptive_avg_pool1d: (_adaptive_pool, ("output_size",)),
    torch.flatten: (_reshape, ()),
    "flatten": (_reshape, ()),
    "view": (_reshape, ()),
    "reshape": (_reshape, ()),
    torch.reshape: (_reshape, ()),
    torch.cat: (_concatenate, ("dim",)),
    operator.add: (_add, ()),
    operator.iadd: (_add, ()),
    torch.add: (_add, ("other", "alpha")),
    "add": (_add, ("other", "alpha")),
    "add_": (_add, ("other", "alpha")),
    "relu_": (_relu, ()),
}
"""What a function or method becomes, and its arguments behind the first tensor."""
