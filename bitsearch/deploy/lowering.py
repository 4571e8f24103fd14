"""From a trained quantized network to a program: its graph, traced, as operations of the closed set."""

import copy
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Interpreter, Node, Tracer
from torch.nn import functional

from bitsearch.deploy.program import (
    Add,
    AveragePool,
    Concatenate,
    MaxPool,
    NetworkInput,
    Operation,
    PackedLayer,
    Program,
    Relu,
    Reshape,
    RunLayer,
)
from bitsearch.deploy.rounding import CURRENT_BITS, fixed_layer
from bitsearch.deploy.trained import trained_layers
from bitsearch.deploy.widths import Analysis, LayerNumbers, analyse
from bitsearch.errors import InputError
from bitsearch.layers import QuantizedLayer, quantized_layers
from bitsearch.layers.modules import QuantizedConv1d, QuantizedConv2d, QuantizedLinear

_SUPPORTED = "convolutions (1-d, 2-d), linear layers, batch norm behind them, ReLU, max, average and adaptive average \
pooling, flatten, view, add, concatenation, dropout"
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
_DEPLOYED = (QuantizedConv1d, QuantizedConv2d, QuantizedLinear)


@dataclass(frozen=True)
class Lowered:
    """A network as a program, and which node of its traced graph each value is."""

    program: Program
    numbers: Mapping[str, LayerNumbers]
    analysis: Analysis
    graph: GraphModule
    """The traced network, in evaluation mode, with modules of its own."""
    operations: Mapping[str, int]
    """Index of the operation that a node (by name) is."""
    folded: frozenset[str]
    """Nodes of batch norms, which are part of their layers."""


@torch.no_grad()
def lower(network: nn.Module, example_input: Tensor) -> Lowered:
    """``network`` as integer operations.

    Args:
        network: from :func:`bitsearch.apply`, with weights loaded.
        example_input: a batch ``[N, ...]``, N > 1, as the network gets in use.

    Raises:
        InputError: nothing quantized or not trained yet, layers without bits, or a node that is none of the closed
            set; names it.
    """
    _check(network)
    graph = _trace(network)
    shapes = _shapes(graph, example_input)
    lowering = _Lowering(graph, shapes)
    return lowering.lowered(tuple(example_input.shape[1:]))


def _check(network: nn.Module) -> None:
    layers = trained_layers(network)
    for name, layer in layers.items():
        if not isinstance(layer, _DEPLOYED):
            raise InputError(f"layer {name!r} is a {type(layer).__name__}; deployed networks hold {_SUPPORTED}")
    owners: dict[int, str] = {}
    for name, layer in layers.items():
        other = owners.setdefault(id(layer.weight), name)
        if other != name:
            raise InputError(f"layers {other!r} and {name!r} share their weight; give each its own to deploy them")
    kept = [
        name or "(the network)"
        for name, module in network.named_modules()
        if not isinstance(module, QuantizedLayer) and any(p.dim() >= 2 for p in module.parameters(recurse=False))
    ]
    if kept:
        raise InputError(
            f"{', '.join(kept)} cannot be given bits, and a packed file holds quantized layers only; "
            "replace it with convolutions or linear layers"
        )


class _Tracer(Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, QuantizedLayer) or super().is_leaf_module(m, module_qualified_name)


def _trace(network: nn.Module) -> GraphModule:
    network = copy.deepcopy(network).cpu().eval()
    try:
        graph: Graph = _Tracer().trace(network)
    except Exception as error:  # a user's forward may raise anything when it is run on symbols
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"the network cannot be traced: {reason}; its forward pass may not depend on data") from error
    return GraphModule(network, graph)


def _shapes(graph: GraphModule, example_input: Tensor) -> dict[Node, tuple[int, ...]]:
    """The shape of every node that is a tensor."""
    found: dict[Node, tuple[int, ...]] = {}

    class Recorder(Interpreter):
        def run_node(self, n: Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, Tensor):
                found[n] = tuple(result.shape)
            return result

    Recorder(graph).run(example_input.cpu())
    return found


class _Lowering:
    """Walks the graph once; ``self.values`` holds the value that each tensor node is."""

    def __init__(self, graph: GraphModule, shapes: dict[Node, tuple[int, ...]]) -> None:
        self.graph, self.shapes = graph, shapes
        self.modules = dict(graph.named_modules())
        self.operations: list[Operation] = []
        self.layers: dict[str, PackedLayer] = {}
        self.numbers: dict[str, LayerNumbers] = {}
        self.values: dict[Node, int] = {}
        self.made: dict[str, int] = {}
        self.norms = self._norms()

    def lowered(self, input_shape: tuple[int, ...]) -> Lowered:
        output = None
        for node in self.graph.graph.nodes:
            if node.op == "placeholder":
                if self.values:
                    raise InputError(f"the network takes a second input {node.name!r}; deployed networks take one")
                self.values[node] = 0
            elif node.op == "output":
                output = node.args[0]
            elif node in self.shapes:
                self._lower(node)
        if not isinstance(output, Node) or self.values.get(output) != len(self.operations):
            raise InputError("the network returns something else than the last tensor it computes; return that alone")
        unused = sorted(set(quantized_layers(self.graph)) - set(self.layers))
        if unused:
            raise InputError(f"layer {unused[0]!r} never runs; leave it out to deploy the network")
        first = next(iter(self.layers.values()))
        encoded = NetworkInput(shape=input_shape, fraction=first.step_fraction, largest=(1 << CURRENT_BITS) - 1)
        program = Program(input=encoded, layers=self.layers, operations=tuple(self.operations))
        folded = frozenset(node.name for node in self.norms.values())
        analysis = analyse(program, self.numbers)
        return Lowered(program, self.numbers, analysis, self.graph, self.made, folded)

    def _norms(self) -> dict[Node, Node]:
        """The batch norm that alone reads a layer's output, by the layer's node."""
        found = {}
        for node in self.graph.graph.nodes:
            if node.op == "call_module" and isinstance(self.modules[node.target], QuantizedLayer):
                users = list(node.users)
                if len(users) == 1 and users[0].op == "call_module" and type(self.modules[users[0].target]) in _NORMS:
                    found[node] = users[0]
        return found

    def _lower(self, node: Node) -> None:
        module = self.modules[str(node.target)] if node.op == "call_module" else None
        if isinstance(module, QuantizedLayer):
            self._layer(node, module)
        elif node in self.norms.values() or isinstance(module, _NOTHING) or self._passed_on(node):
            self._same(node)
        elif module is not None and type(module) in _MODULES:
            make, names = _MODULES[type(module)]
            self._operation(node, make, {name: getattr(module, name) for name in names})
        elif module is None and node.target in _CALLS:
            make, names = _CALLS[node.target]
            given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
            self._operation(node, make, {name: given.get(name, _DEFAULTS.get(name)) for name in names})
        else:
            raise InputError(f"{_title(node, module)} cannot be deployed; deployed networks hold {_SUPPORTED}")

    def _same(self, node: Node) -> None:
        (self.values[node],) = self._input(node)

    def _passed_on(self, node: Node) -> bool:
        # Dropout as a function is on unless it is told otherwise.
        dropout = node.target in (functional.dropout, functional.dropout2d)
        return node.target == "contiguous" or (
            dropout and node.kwargs.get("training", [*node.args, True, True][2]) is False
        )

    def _input(self, node: Node) -> tuple[int]:
        """The value of the first tensor that a node reads."""
        return (next(self.values[given] for given in node.all_input_nodes if given in self.shapes),)

    def _operation(
        self, node: Node, make: Callable[["_Lowering", Node, dict[str, Any]], Operation], setting: Any
    ) -> None:
        in_place = setting.get("inplace") or node.target in (operator.iadd, "add_", "relu_")
        if in_place and len(node.all_input_nodes[0].users) > 1:
            raise InputError(
                f"{node.name} changes a tensor in place that others read; drop inplace to deploy the network"
            )
        self._append(node, make(self, node, setting))

    def _append(self, node: Node, operation: Operation) -> None:
        self.made[node.name] = len(self.operations)
        self.operations.append(operation)
        self.values[node] = len(self.operations)

    def _layer(self, node: Node, layer: QuantizedLayer) -> None:
        name = str(node.target)
        norm_node = self.norms.get(node)
        norm = self.modules[str(norm_node.target)] if norm_node is not None else None
        if isinstance(layer, QuantizedLinear) and norm is not None and len(self.shapes[node]) > 2:
            raise InputError(f"{norm_node}: batch norm over tokens cannot be folded into {name!r}")
        packed, numbers = fixed_layer(name, layer, norm)
        if name in self.layers and not _same_numbers(numbers, self.numbers[name]):
            raise InputError(
                f"layer {name!r} runs several times with different batch norms; give each run its own layer"
            )
        self.layers[name], self.numbers[name] = packed, numbers
        self._append(node, RunLayer(name=node.name, inputs=self._input(node), layer=name))


def _same_numbers(one: LayerNumbers, other: LayerNumbers) -> bool:
    return bool((one.multiplier == other.multiplier).all() and (one.bias == other.bias).all())


def _title(node: Node, module: nn.Module | None) -> str:
    if module is not None:
        return f"{node.target} ({type(module).__name__})"
    return f"{node.name} ({getattr(node.target, '__name__', node.target)})"


def _relu(lowering: _Lowering, node: Node, setting: dict[str, Any]) -> Operation:
    return Relu(name=node.name, inputs=lowering._input(node))


def _add(lowering: _Lowering, node: Node, setting: dict[str, Any]) -> Operation:
    if setting.get("alpha", 1) not in (1, None) or not all(isinstance(given, Node) for given in node.args[:2]):
        raise InputError(f"{node.name} adds something else than two tensors as they are, which cannot be deployed")
    left, right = (lowering.values[given] for given in node.args[:2])  # type: ignore[index]
    return Add(name=node.name, inputs=(left, right))


def _concatenate(lowering: _Lowering, node: Node, setting: dict[str, Any]) -> Operation:
    given = node.args[0] if node.args else node.kwargs["tensors"]
    rank = len(lowering.shapes[node])
    if setting["dim"] not in (1, 1 - rank):
        raise InputError(
            f"{node.name} concatenates along axis {setting['dim']}; only axis 1, the channels, is deployed"
        )
    return Concatenate(name=node.name, inputs=tuple(lowering.values[one] for one in given))  # type: ignore


def _reshape(lowering: _Lowering, node: Node, setting: dict[str, Any]) -> Operation:
    before, after = lowering.shapes[node.all_input_nodes[0]], lowering.shapes[node]
    if before[0] != after[0] or len(after) < 2:
        raise InputError(f"{node.name} reshapes {before} to {after}; the batch axis must stay the first")
    return Reshape(name=node.name, inputs=lowering._input(node), shape=after[1:])


def _max_pool(lowering: _Lowering, node: Node, setting: dict[str, Any]) -> Operation:
    axes = len(lowering.shapes[node]) - 2
    _refuse(node, setting, "ceil_mode", "return_indices")
    return MaxPool(
        name=node.name,
        inputs=lowering._input(node),
        kernel=_each(setting["kernel_size"], axes),
        stride=_each(setting["stride"] or setting["kernel_size"], axes),
        padding=_each(setting["padding"], axes),
        dilation=_each(setting["dilation"], axes),
    )


def _average_pool(lowering: _Lowering, node: Node, setting: dict[str, Any]) -> Operation:
    axes = len(lowering.shapes[node]) - 2
    _refuse(node, setting, "ceil_mode", "divisor_override")
    padding = _each(setting["padding"], axes)
    if any(padding) and setting["count_include_pad"] is False:
        raise InputError(f"{node.name}: average pooling with count_include_pad=False and padding cannot be deployed")
    return AveragePool(
        name=node.name,
        inputs=lowering._input(node),
        kernel=_each(setting["kernel_size"], axes),
        stride=_each(setting["stride"] or setting["kernel_size"], axes),
        padding=padding,
    )


def _adaptive_pool(lowering: _Lowering, node: Node, setting: dict[str, Any]) -> Operation:
    before, after = lowering.shapes[node.all_input_nodes[0]][2:], lowering.shapes[node][2:]
    if any(size % parts for size, parts in zip(before, after, strict=True)):
        raise InputError(f"{node.name} pools {before} adaptively to {after}; deployed windows are all of one size")
    kernel = tuple(size // parts for size, parts in zip(before, after, strict=True))
    return AveragePool(
        name=node.name, inputs=lowering._input(node), kernel=kernel, stride=kernel, padding=(0,) * len(kernel)
    )


def _each(value: Any, axes: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * axes


def _refuse(node: Node, setting: dict[str, Any], *names: str) -> None:
    for name in names:
        if setting.get(name):
            raise InputError(f"{node.name}: pooling with {name} cannot be deployed")


_MAX = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVERAGE = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
_DEFAULTS = {"padding": 0, "dilation": 1, "count_include_pad": True, "dim": 0, "alpha": 1}
_Made = tuple[Callable[[_Lowering, Node, dict[str, Any]], Operation], tuple[str, ...]]

_MODULES: dict[type[nn.Module], _Made] = {
    nn.ReLU: (_relu, ("inplace",)),
    nn.MaxPool1d: (_max_pool, _MAX),
    nn.MaxPool2d: (_max_pool, _MAX),
    nn.AvgPool1d: (_average_pool, _AVERAGE),
    nn.AvgPool2d: (_average_pool, (*_AVERAGE, "divisor_override")),
    nn.AdaptiveAvgPool1d: (_adaptive_pool, ()),
    nn.AdaptiveAvgPool2d: (_adaptive_pool, ()),
    nn.Flatten: (_reshape, ()),
}
"""What a module becomes, and the attributes that say how."""

_CALLS: dict[Any, _Made] = {
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
