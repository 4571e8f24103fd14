"""From a trained quantized network to a program: its graph, traced, as operations of the closed set."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from spikingjelly.activation_based import base
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg
from torch.nn import functional

from bitsearch.deploy.integer.bounds import Range, TooWideError
from bitsearch.deploy.integer.operations import (
    AnyOperation,
    Reshape,
    RunLayer,
    RunNeuron,
    RunSynapses,
    SumFrames,
)
from bitsearch.deploy.integer.packed_layer import LayerNumbers, PackedLayer
from bitsearch.deploy.integer.program import NetworkInput, Program
from bitsearch.deploy.integer.ranges import Analysis, analyse_ranges
from bitsearch.deploy.lower.fixed_point import CURRENT_BITS, LEAST_CURRENT_BITS, lower_layer
from bitsearch.deploy.lower.input_encoding import input_fraction, readers_of_input
from bitsearch.deploy.lower.output_neurons import OUTPUT_NEURONS, OutputNeuron
from bitsearch.deploy.lower.rules import (
    RULES,
    Call,
    Rule,
    averages_fraction,
    changes_in_place,
    rule_of,
    settings_of,
)
from bitsearch.deploy.lower.stored_once import store_once
from bitsearch.deploy.lower.tracing import Traced, trace
from bitsearch.deploy.lower.trained_layers import trained_layers
from bitsearch.errors import InputError
from bitsearch.frameworks.layers import PASSED_ON
from bitsearch.layers import QuantizedLayer, quantized_layers
from bitsearch.layers.modules import QuantizedConv1d, QuantizedConv2d, QuantizedLinear
from bitsearch.layers.neurons.placed_neuron import PlacedNeuron
from bitsearch.layers.transposed import QuantizedConvTranspose1d, QuantizedConvTranspose2d

_SUPPORTED = ", ".join(
    (
        "convolutions and transposed ones (1-d, 2-d)",
        "linear layers",
        "batch norm behind them",
        *(rule.title for rule in RULES if rule.title),
        "dropout",
        "spiking neurons in front of quantized layers and behind the last",
    )
)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_DEPLOYED = (
    QuantizedConv1d,
    QuantizedConv2d,
    QuantizedConvTranspose1d,
    QuantizedConvTranspose2d,
    QuantizedLinear,
)


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
        example_input: a batch ``[N, ...]``, or ``[F, N, ...]`` with a time axis, N > 1, as the network gets in use.

    Raises:
        InputError: nothing quantized or not trained yet, layers without bits, or a node that is none of the closed
            set; names it.
    """
    _check(network)
    traced = trace(network, example_input)
    static = traced.frames is None or traced.repeated
    lowered = _lowered(traced, tuple(example_input.shape[1 if static else 2 :]))
    unused = sorted(set(quantized_layers(network)) - {operation.layer for _, operation in lowered.program.runs()})
    if unused:
        raise InputError(f"layer {unused[0]!r} never runs; leave it out to deploy the network")
    if not traced.frames_independent and traced.looped:
        raise InputError(
            "the network gives something else than the logits of its loop's frames, their sum or their mean; return "
            "one of these to deploy it, and let every frame be computed from itself and the neurons' membranes alone"
        )
    if not traced.frames_independent:
        raise InputError(
            "the network gives something else when its frames are part of the batch, as they are when it is deployed; "
            "build it of spikingjelly layers and leave the time axis to these"
        )
    return lowered


def _lowered(traced: Traced, input_shape: tuple[int, ...]) -> Lowered:
    """With currents as fine as the integers that come of them have room for."""
    current_bits = CURRENT_BITS
    while True:
        try:
            return _Lowering(traced, input_shape, current_bits).lowered()
        except TooWideError as error:
            current_bits -= error.excess
            if current_bits < LEAST_CURRENT_BITS:
                raise InputError(
                    f"{error}, even with currents of {LEAST_CURRENT_BITS} bits; average over fewer values at once, "
                    "as by max pooling or a stride in front, or take fewer inputs a layer"
                ) from error


def _check(network: nn.Module) -> None:
    layers = trained_layers(network)
    for name, layer in layers.items():
        if not isinstance(layer, _DEPLOYED):
            raise InputError(f"layer {name!r} is a {type(layer).__name__}; deployed networks hold {_SUPPORTED}")
    unquantized = {
        name or "(the network)": module
        for name, module in network.named_modules()
        if not isinstance(module, QuantizedLayer) and any(p.dim() >= 2 for p in module.parameters(recurse=False))
    }
    for name, module in unquantized.items():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            raise InputError(
                f"{name} is an {type(module).__name__}, whose 32-bit vectors a packed file cannot hold; deploy the "
                "network behind it, which reads them, or as onnx"
            )
    if unquantized:
        raise InputError(
            f"{', '.join(unquantized)} has no bits, and a packed file holds quantized layers only; give it bits in the "
            "plan, or replace it with convolutions and linear layers, which can be given them"
        )


class _Lowering:
    """Walks the graph once."""

    def __init__(self, traced: Traced, input_shape: tuple[int, ...], current_bits: int) -> None:
        self.graph, self.frames, self.repeated = traced.graph, traced.frames, traced.repeated
        self.input_shape, self.shapes, self.current_bits = input_shape, traced.shapes, current_bits
        self.values: dict[Node, int] = {}
        self.modules = dict(self.graph.named_modules())
        self.operations: list[AnyOperation] = []
        self.layers: dict[str, PackedLayer] = {}
        self.numbers: dict[str, LayerNumbers] = {}
        self.run: set[str] = set()
        """Layers whose weights have run."""
        self.indices: dict[str, int] = {}
        self.norms = self._norms()
        self.finer = averages_fraction(self._calls())
        self.readers = readers_of_input(self.graph.graph, self.modules)

    def lowered(self) -> Lowered:
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
        if self.frames is not None:
            self._read_out(output)
        modules = {name: module for name, module in self.modules.items() if isinstance(module, QuantizedLayer)}
        layers = store_once(self.layers, self.numbers, modules)
        program = Program(input=self._input(), layers=layers, operations=tuple(self.operations))
        folded = frozenset(node.name for node in self.norms.values())
        analysis = analyse_ranges(program, self.numbers)
        return Lowered(program, self.numbers, analysis, self.graph, self.indices, folded)

    def _input(self) -> NetworkInput:
        first = next(iter(self.layers.values()))
        return NetworkInput(
            shape=self.input_shape,
            fraction=input_fraction(self.readers, first, self.current_bits),
            largest=(1 << self.current_bits) - 1,
            frames=self.frames,
            repeated=self.repeated,
        )

    def _read_out(self, output: Node) -> None:
        """The mean over the frames that a prediction is, as a sum."""
        shape = self.shapes[output]
        if len(shape) != 2:
            raise InputError(
                f"the network returns a tensor of shape ({self.frames}, 'N', {', '.join(map(str, shape[1:]))}); "
                "deployed networks with a time axis return logits, (T, 'N', classes)"
            )
        self.operations.append(SumFrames(name="readout", inputs=(self.values[output],)))

    def _norms(self) -> dict[Node, Node]:
        """The batch norm that alone reads a layer's output, by the layer's node."""
        norms = {}
        for node in self.graph.graph.nodes:
            if node.op == "call_module" and isinstance(self.modules[node.target], QuantizedLayer):
                users = list(node.users)
                if len(users) == 1 and users[0].op == "call_module" and type(self.modules[users[0].target]) in _NORMS:
                    norms[node] = users[0]
        return norms

    def _lower(self, node: Node) -> None:
        module = self.modules[str(node.target)] if node.op == "call_module" else None
        if isinstance(module, QuantizedLayer):
            self._layer(node, module)
        elif node in self.norms.values() or isinstance(module, PASSED_ON) or self._is_identity(node):
            self._pass_through(node)
        elif (rule := rule_of(node, module)) is not None:
            self._operation(node, rule, module)
        elif isinstance(module, PlacedNeuron):
            self._placed_neuron(node, module)
        elif isinstance(module, OutputNeuron):
            self._neuron(node, module)
        elif isinstance(module, base.MemoryModule):
            raise InputError(
                f"{_title(node, module)} cannot be deployed: no quantized layer reads it, and neurons that read a "
                f"network out are {', '.join(kind.__name__ for kind in OUTPUT_NEURONS)}; take one of these, or return "
                "the currents, whose mean over time is the prediction"
            )
        else:
            raise InputError(f"{_title(node, module)} cannot be deployed; deployed networks hold {_SUPPORTED}")

    def _pass_through(self, node: Node) -> None:
        self.values[node] = self._input_values(node)[0]

    def _is_identity(self, node: Node) -> bool:
        # Dropout as a function is on unless it is told otherwise.
        dropout = node.target in (functional.dropout, functional.dropout2d)
        return node.target == "contiguous" or (
            dropout and node.kwargs.get("training", [*node.args, True, True][2]) is False
        )

    def _tensors(self, node: Node) -> list[Node]:
        """What a node reads that is a tensor, in the order of its arguments, as often as it is there."""
        inputs: list[Node] = []
        map_arg((node.args, node.kwargs), inputs.append)
        return [tensor for tensor in inputs if tensor in self.shapes]

    def _input_values(self, node: Node) -> tuple[int, ...]:
        return tuple(self.values[tensor] for tensor in self._tensors(node))

    def _operation(self, node: Node, rule: Rule, module: nn.Module | None) -> None:
        tensors, call = self._tensors(node), self._call(node, rule, module)
        if changes_in_place(call) and self._others_see(tensors[0]):
            raise InputError(
                f"{node.name} changes a tensor in place that others read; drop inplace to deploy the network"
            )
        fields = rule.fields(call)
        self._append(node, rule.operation(name=node.name, inputs=self._input_values(node), **fields))

    def _others_see(self, tensor: Node) -> bool:
        """Whether anything else reads a tensor, or what it may be a view of."""
        while len(tensor.users) == 1:
            module = self.modules[str(tensor.target)] if tensor.op == "call_module" else None
            rule = rule_of(tensor, module)
            is_view = isinstance(module, PASSED_ON) or self._is_identity(tensor)
            if not is_view and (rule is None or rule.operation is not Reshape):
                return False
            (tensor,) = self._tensors(tensor)
        return True

    def _calls(self) -> Iterator[tuple[Rule, Call]]:
        for node in self.graph.graph.nodes:
            module = self.modules[str(node.target)] if node.op == "call_module" else None
            rule = rule_of(node, module)
            if rule is not None and node in self.shapes:
                yield rule, self._call(node, rule, module)

    def _call(self, node: Node, rule: Rule, module: nn.Module | None) -> Call:
        shapes = tuple(self.shapes[tensor] for tensor in self._tensors(node))
        return Call(node, settings_of(rule, node, module), shapes, self.shapes[node])

    def _append(self, node: Node, operation: AnyOperation) -> None:
        self.indices[node.name] = len(self.operations)
        self.operations.append(operation)
        self.values[node] = len(self.operations)

    def _neuron(self, node: Node, neuron: OutputNeuron) -> None:
        if not self.layers:
            raise InputError(f"{_title(node, neuron.spiking)} cannot be deployed in front of all quantized layers")
        (value,) = self._input_values(node)
        fraction = self._range(value).fraction
        self._append(node, neuron.operation(_title(node, neuron.spiking), node.name, value, fraction))

    def _steps_of(self, layer: QuantizedLayer) -> tuple[PackedLayer, LayerNumbers] | None:
        """A layer that is lowered already and whose neurons the layer reads too."""
        names = (name for name in self.layers if self.modules[name] in layer.spike_partners)
        name = next(names, None)
        return None if name is None else (self.layers[name], self.numbers[name])

    def _range(self, value: int) -> Range:
        # The program so far; it does not end as a whole one has to.
        unfinished = Program.model_construct(input=self._input(), layers=self.layers, operations=tuple(self.operations))
        return analyse_ranges(unfinished, self.numbers).values[value]

    def _placed_neuron(self, node: Node, neuron: PlacedNeuron) -> None:
        modules = (
            (run, self.modules.get(str(run.target))) for run in self.graph.graph.nodes if run.op == "call_module"
        )
        reader = next(run for run, module in modules if module is neuron.owner)
        name, (source,) = str(reader.target), self._tensors(reader)
        if name not in self.layers:
            # Its steps; what its weights read is known once they are reached.
            shapes = self.shapes[source], self.shapes[reader]
            self.layers[name], self.numbers[name] = lower_layer(
                name, neuron.owner, None, *shapes, current_bits=self.current_bits
            )
        (value,) = self._input_values(node)
        self._append(node, RunNeuron(name=node.name, inputs=(value,), layer=name, finer=self.finer))

    def _layer(self, node: Node, layer: QuantizedLayer) -> None:
        name = str(node.target)
        norm_node = self.norms.get(node)
        norm = self.modules[str(norm_node.target)] if norm_node is not None else None
        if isinstance(layer, QuantizedLinear) and norm is not None and len(self.shapes[node]) > 2:
            raise InputError(f"{norm_node}: batch norm over tokens cannot be folded into {name!r}")
        (source,) = self._tensors(node)
        value = self.values[source]
        spikes = self._range(value) if layer.in_place else None
        shapes = self.shapes[source], self.shapes[node]
        packed, numbers = lower_layer(name, layer, norm, *shapes, spikes, self._steps_of(layer), self.current_bits)
        if name in self.run and packed.output_padding != self.layers[name].output_padding:
            raise InputError(f"layer {name!r} runs several times, to different sizes; give each run its own layer")
        if name in self.run and not _same_arithmetic(packed, numbers, self.layers[name], self.numbers[name]):
            raise InputError(
                f"layer {name!r} runs several times with different batch norms"
                f"{', or on other sums of spikes' if layer.in_place else ''}; give each run its own layer"
            )
        self.run.add(name)
        self.layers[name], self.numbers[name] = packed, numbers
        operation = RunSynapses if layer.in_place else RunLayer
        self._append(node, operation(name=node.name, inputs=(value,), layer=name))


def _same_arithmetic(
    layer: PackedLayer, numbers: LayerNumbers, other: PackedLayer, other_numbers: LayerNumbers
) -> bool:
    """Whether two runs of a layer scale its sums alike; batch norms twice as large differ in a shift alone."""
    same = (numbers.multiplier == other_numbers.multiplier).all() and (numbers.bias == other_numbers.bias).all()
    return bool(same) and (layer.shift, layer.fraction) == (other.shift, other.fraction)


def _title(node: Node, module: nn.Module | None) -> str:
    if module is not None:
        return f"{node.target} ({type(module).__name__})"
    return f"{node.name} ({getattr(node.target, '__name__', node.target)})"
