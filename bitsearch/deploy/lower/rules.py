"""Which modules, functions and methods of a traced network become which operation: one line of a table each."""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import frexp, prod
from typing import Any

import torch
from torch import nn
from torch.fx import Node
from torch.nn import functional

from bitsearch.deploy.integer.operations import (
    Add,
    AnyOperation,
    AveragePool,
    Concatenate,
    MaxPool,
    Relu,
    Reshape,
    Scale,
)
from bitsearch.errors import InputError
from bitsearch.layers.neurons.input_current import InputCurrent

Shape = tuple[int, ...]

AVERAGED_FRACTION = 8
"""Bits below a spike level, where averages of spikes would be rounded to few bits otherwise."""


@dataclass(frozen=True)
class Call:
    """A node of a traced graph: a module, function or method, called with tensors and settings."""

    node: Node
    settings: Mapping[str, Any]
    """What its rule asks for: attributes of the module, or arguments of the call."""
    inputs: tuple[Shape, ...]
    """Shapes of the tensors that it reads, batch axis first, in the order of its arguments."""
    result: Shape

    @property
    def axes(self) -> int:
        """How many axes the result has behind batch and channels."""
        return len(self.result) - 2


def _no_fields(call: Call) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Rule:
    """Calls that become one operation."""

    operation: Callable[..., AnyOperation]
    title: str
    """For a message that lists what is deployed; empty where it names the calls elsewhere."""
    targets: tuple[Any, ...]
    """Types of modules, functions, and names of methods."""
    fields: Callable[[Call], dict[str, Any]] = _no_fields
    """Of the operation, but for its name and inputs; InputError, naming the node, for a call that it cannot express."""
    settings: tuple[str, ...] = ()
    """Attributes of a module that ``fields`` asks for; arguments of a call behind the first tensor, in order."""


def _scale(call: Call) -> dict[str, Any]:
    if call.settings["gain"].numel() != 1:
        raise InputError(
            f"{call.node.target} has {call.settings['gain'].numel()} thresholds; a deployed neuron has one. Scale the "
            "weights of the layer in front of it, so that all thresholds are the same"
        )
    gain = call.settings["gain"].item()
    if not 2.0**-32 < gain < 2.0**32:
        raise InputError(f"{call.node.target} multiplies its input by {gain:g}; deployed gains are 2^-32 to 2^32")
    # gain = multiplier·2^(exponent − 16); a multiplier of few bits needs no rounding.
    mantissa, exponent = frexp(gain)
    multiplier = round(mantissa * 2**16)
    trailing_zeros = (multiplier & -multiplier).bit_length() - 1
    multiplier, places = multiplier >> trailing_zeros, 16 - trailing_zeros
    # What is no power of two is rounded where it was: a current keeps its bits.
    shift = places if multiplier > 1 else 0
    return {"multiplier": multiplier, "shift": shift, "finer": places - shift - exponent}


def _add(call: Call) -> dict[str, Any]:
    if call.settings["alpha"] not in (1, None) or len(call.inputs) != 2:
        raise InputError(f"{call.node.name} adds something else than two tensors as they are, which cannot be deployed")
    return {}


def _concatenate(call: Call) -> dict[str, Any]:
    axis = call.settings["dim"]
    if axis not in (1, 1 - len(call.result)):
        raise InputError(f"{call.node.name} concatenates along axis {axis}; only axis 1, the channels, is deployed")
    return {}


def _reshape(call: Call) -> dict[str, Any]:
    before, after = call.inputs[0], call.result
    if before[0] != after[0] or len(after) < 2:
        raise InputError(f"{call.node.name} reshapes {before} to {after}; the batch axis must stay the first")
    return {"shape": after[1:]}


def _max_pool(call: Call) -> dict[str, Any]:
    _refuse(call, "ceil_mode", "return_indices")
    return {**_windows(call), "dilation": _each(call.settings["dilation"], call.axes)}


def _average_pool(call: Call) -> dict[str, Any]:
    _refuse(call, "ceil_mode", "divisor_override")
    windows = _windows(call)
    if any(windows["padding"]) and call.settings["count_include_pad"] is False:
        raise InputError(
            f"{call.node.name}: average pooling with count_include_pad=False and padding cannot be deployed"
        )
    return windows


def _adaptive_pool(call: Call) -> dict[str, Any]:
    before, after = call.inputs[0][2:], call.result[2:]
    if any(size % parts for size, parts in zip(before, after, strict=True)):
        raise InputError(f"{call.node.name} pools {before} adaptively to {after}; deployed windows are all of one size")
    kernel = tuple(size // parts for size, parts in zip(before, after, strict=True))
    return {"kernel": kernel, "stride": kernel, "padding": (0,) * len(kernel)}


def _windows(call: Call) -> dict[str, Shape]:
    settings = call.settings
    return {
        "kernel": _each(settings["kernel_size"], call.axes),
        "stride": _each(settings["stride"] or settings["kernel_size"], call.axes),
        "padding": _each(settings["padding"], call.axes),
    }


def _each(value: Any, axes: int) -> Shape:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * axes


def _refuse(call: Call, *names: str) -> None:
    for name in names:
        if call.settings[name]:
            raise InputError(f"{call.node.name}: pooling with {name} cannot be deployed")


_RELU = (nn.ReLU, functional.relu, torch.relu, "relu", "relu_")
_ADD = (operator.add, operator.iadd, torch.add, "add", "add_")
CONCATENATE = (torch.cat, torch.concat, torch.concatenate)
_RESHAPE = (nn.Flatten, nn.Unflatten, torch.flatten, torch.reshape, "flatten", "view", "reshape")
_MAX = (nn.MaxPool1d, nn.MaxPool2d, functional.max_pool1d, functional.max_pool2d, torch.max_pool2d)
_AVERAGE = (nn.AvgPool1d, nn.AvgPool2d, functional.avg_pool1d, functional.avg_pool2d)
_ADAPTIVE = (
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    functional.adaptive_avg_pool1d,
    functional.adaptive_avg_pool2d,
)
_MAX_SETTINGS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVERAGE_SETTINGS = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")

RULES = (
    Rule(Relu, "ReLU", _RELU, settings=("inplace",)),
    Rule(Scale, "", (InputCurrent,), _scale, ("gain",)),
    Rule(MaxPool, "max pooling", _MAX, _max_pool, _MAX_SETTINGS),
    Rule(AveragePool, "average pooling", _AVERAGE, _average_pool, _AVERAGE_SETTINGS),
    Rule(AveragePool, "adaptive average pooling", _ADAPTIVE, _adaptive_pool),
    Rule(Reshape, "flatten, view", _RESHAPE, _reshape),
    Rule(Add, "addition", _ADD, _add, ("other", "alpha")),
    Rule(Concatenate, "concatenation", CONCATENATE, _concatenate, ("dim",)),
)
"""Layers, neurons behind the last of them and the sum over frames are lowered by hand in :mod:`.lowering`."""

DEFAULTS: dict[str, Any] = {"padding": 0, "dilation": 1, "count_include_pad": True, "dim": 0, "alpha": 1}
"""Of settings that a call leaves out, or a module has not; None otherwise."""

_BY_TARGET = {target: rule for rule in RULES for target in rule.targets}


def rule_of(node: Node, module: nn.Module | None) -> Rule | None:
    """The rule for a node, which calls ``module`` if it calls one; None where nothing deployed stands for it."""
    if module is not None:
        return _BY_TARGET.get(type(module))
    return _BY_TARGET.get(node.target) if node.op in ("call_function", "call_method") else None


def settings_of(rule: Rule, node: Node, module: nn.Module | None) -> dict[str, Any]:
    """What a rule asks for, of the module or of the call's arguments."""
    if module is not None:
        return {name: getattr(module, name, DEFAULTS.get(name)) for name in rule.settings}
    arguments = dict(zip(rule.settings, node.args[1:], strict=False)) | dict(node.kwargs)
    return {name: arguments.get(name, DEFAULTS.get(name)) for name in rule.settings}


def averages_fraction(calls: Iterable[tuple[Rule, Call]]) -> int:
    """How many bits finer than a level spikes are counted, for averages that are no multiples of a power of two."""
    windows = (prod(rule.fields(call)["kernel"]) for rule, call in calls if rule.operation is AveragePool)
    return AVERAGED_FRACTION if any(window.bit_count() > 1 for window in windows) else 0


def changes_in_place(call: Call) -> bool:
    """Whether a call writes over its first tensor; torch's methods that do end in an underscore."""
    target = call.node.target
    method = call.node.op == "call_method" and str(target).endswith("_")
    return bool(method or target is operator.iadd or call.settings.get("inplace"))
