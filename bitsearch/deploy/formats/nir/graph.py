r"""A traced quantized network as a graph of NIR (Pedersen et al. 2024).

NIR streams: at every step each node passes on what it has, so a network maps where no layer averages over time, which
is with event data and a step a frame, or with a single step. A refined neuron with one-bit spikes and one step size s
is then a neuron of NIR with threshold s, in terms of v = u + s/2, or of v = u where the threshold is the full step:

.. math::
    v_{t+1} = \lambda (v_t - s z_t) + (1 - \lambda) s/2 + I_{t+1}, \qquad z_t = [v_t > s]

or, where a spike resets it to zero, one with threshold s/2 (or s), in terms of v = u, whose spikes leave v = 0; with a
single step it is a comparison with s/2 (or s). What a neuron is written as is the dialect's. A reset to zero is NIR's
own, to v_reset; a soft one NIR leaves to its readers, and SpikingJelly's exporter (version 2.0) refuses it for that
reason; so graphs are made of nodes here, whose metadata say ``reset``. Weights are quantized values with s and the
batch norm behind them multiplied in.
"""

import copy
import operator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node, Tracer
from torch.fx.passes.shape_prop import ShapeProp

from bitsearch.deploy.formats.nir.dialects import Dialect
from bitsearch.deploy.formats.nir.nodes import connection, flatten, neuron, pool, refused, scale
from bitsearch.deploy.lower.loop import LoopTracer, call_at_once, loop_rounds, roll_up
from bitsearch.deploy.lower.time_axis import drop_read_out, reads_out
from bitsearch.errors import InputError
from bitsearch.frameworks.layers import PASSED_ON
from bitsearch.frameworks.neurons import is_spiking
from bitsearch.layers import QuantizedLayer, quantized_layers
from bitsearch.layers.neurons.input_current import InputCurrent
from bitsearch.layers.neurons.placed_neuron import PlacedNeuron

if TYPE_CHECKING:
    import nir

_SUPPORTED = "convolutions (1-d, 2-d), linear layers, batch norm behind them, average pooling, flatten and addition"


def nir_graph(network: nn.Module, example_input: Tensor, dialect: Dialect) -> "nir.NIRGraph":
    """The network's graph; InputError names what NIR, or the dialect's reader, has no node for."""
    network = copy.deepcopy(network).cpu().eval()
    rounds = loop_rounds(network)
    try:
        if rounds is None:
            graph, leading = _trace(network, example_input.cpu())
        else:
            graph, leading = _trace_loop(network, example_input.cpu(), rounds), 1
    except InputError:
        raise
    except Exception as error:  # a user's forward may raise anything when it is run on symbols
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"the network cannot be traced: {reason}; its forward pass may not depend on data") from error
    return _Nodes(graph, leading, dialect).graph()


class _Tracer(Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, QuantizedLayer) or is_spiking(m) or not any(m.children())


class _OfLoop(LoopTracer, _Tracer):
    """Of a network that calls its layers once a frame."""


def _trace(network: nn.Module, example_input: Tensor) -> tuple[GraphModule, int]:
    """(graph, how many axes are in front of those of one sample at one step)."""
    graph = GraphModule(network, _Tracer().trace(network))
    framed = any(layer.frames is not None for layer in quantized_layers(network).values())
    if framed:
        drop_read_out(graph)
    ShapeProp(graph).propagate(example_input)
    return graph, 2 if framed else 1


def _trace_loop(network: nn.Module, example_input: Tensor, rounds: int) -> GraphModule:
    """One round of the loop, on frames that are part of the batch; a stream does each round as it comes."""
    result = network(example_input)
    call_at_once(network)
    graph = GraphModule(network, _OfLoop(example_input, rounds).trace(network))
    if roll_up(graph, rounds):
        joined = example_input.repeat(rounds, *[1] * (example_input.dim() - 1))
    else:
        joined = example_input.flatten(0, 1)
    logits = ShapeProp(graph).propagate(joined)
    if not any(reads_out(result, logits, rounds, read_out) for read_out in ("mean", "sum", None)):
        raise InputError(
            "the network gives something else than the logits of its loop's frames, their sum or their mean; return "
            "one of these to deploy it"
        )
    return graph


class _Nodes:
    """Walks a traced network once; ``self.sources`` holds the nodes whose sum each of its tensors is."""

    def __init__(self, graph: GraphModule, leading: int, dialect: Dialect) -> None:
        self.traced, self.dialect, self.modules = graph, dialect, dict(graph.named_modules())
        self.leading = leading
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        self.sources: dict[Node, list[str]] = {}
        self.norms: dict[Node, nn.Module] = {}

    def graph(self) -> "nir.NIRGraph":
        import nir

        for node in self.traced.graph.nodes:
            if node.op == "placeholder":
                if self.nodes:
                    raise InputError(f"the network takes a second input {node.name!r}; NIR's exported graphs take one")
                self._append(node, "input", nir.Input(input_type={"input": np.array(self._shape(node))}), [])
            elif node.op == "output":
                (last,) = node.all_input_nodes
                output = nir.Output(output_type={"output": np.array(self._shape(last))})
                self._append(node, "output", output, self.sources[last])
            else:
                self._map(node)
        try:
            return nir.NIRGraph(nodes=self.nodes, edges=self.edges, type_check=not self.dialect.nir_1_0_4)
        except ValueError as error:  # of its own inference of shapes
            reason = " ".join(str(error).split())
            raise InputError(f"the nir package refuses the network's graph: {reason}; deploy it as packed") from error

    def _shape(self, node: Node) -> tuple[int, ...]:
        """Of one sample at one step."""
        return tuple(node.meta["tensor_meta"].shape[self.leading :])

    def _append(self, node: Node, name: str, nir_node: "nir.NIRNode", sources: list[str]) -> None:
        if name in self.nodes:
            raise InputError(f"{name!r} cannot be expressed in NIR: it runs several times; give each run its own layer")
        if len(set(sources)) < len(sources):
            raise InputError(f"{name!r} cannot be expressed in NIR: it reads the same tensor twice")
        branches = len(sources) > 1 or any(source in sources for source, _ in self.edges)
        if branches and self.dialect.chains:
            raise refused(
                name, f"its network branches, and {self.dialect.reader}'s importer runs chains of layers alone"
            )
        self.nodes[name] = nir_node
        self.edges += [(source, name) for source in sources]
        self.sources[node] = [name]

    def _map(self, node: Node) -> None:
        module = self.modules[str(node.target)] if node.op == "call_module" else None
        if node.target in (operator.add, torch.add, "add") and len(node.all_input_nodes) == 2 and not node.kwargs:
            self.sources[node] = [name for operand in node.all_input_nodes for name in self.sources[operand]]
            return
        sources = self.sources[node.all_input_nodes[0]] if node.all_input_nodes else []
        if isinstance(module, QuantizedLayer):
            self._layer(node, module, sources)
        elif (
            node in self.norms
            or isinstance(module, PASSED_ON)
            or (type(module) is InputCurrent and not module.rectified and module.is_identity)
        ):
            self.sources[node] = sources
        elif isinstance(module, PlacedNeuron):
            self._placed_neuron(node, module, sources)
        elif isinstance(module, InputCurrent) and not module.rectified:
            self._append(node, str(node.target), self._scale(node, module), sources)
        elif isinstance(module, nn.AvgPool2d | nn.AdaptiveAvgPool2d):
            before, after = self._shape(node.all_input_nodes[0]), self._shape(node)
            self._append(node, str(node.target), pool(str(node.target), module, before, after, self.dialect), sources)
        elif isinstance(module, nn.Flatten):
            before, after = self._shape(node.all_input_nodes[0]), self._shape(node)
            self._append(node, str(node.target), flatten(str(node.target), before, after), sources)
        else:
            raise self._refusal(node, module)

    @staticmethod
    def _refusal(node: Node, module: nn.Module | None) -> InputError:
        """Names the network's own module, or what its forward pass calls."""
        where, advice = (node.name if module is None else node.target), f"allowed beside neurons are {_SUPPORTED}"
        kind = getattr(node.target, "__name__", node.target) if module is None else type(module).__name__
        if isinstance(module, InputCurrent):
            kind = f"{module.neuron_class}, whose currents the plan clips at zero in front of what reads them"
            advice = "a plan that is made anew lets it fire where it stands"
        elif module is not None and is_spiking(module):
            kind, advice = f"{kind}, for which no quantized layer stands", "bitsearch profile says why it stays"
        return refused(str(where), f"it is {kind}; {advice}")

    def _scale(self, node: Node, module: InputCurrent) -> "nir.NIRNode":
        return scale(str(node.target), module.gain.numpy(), self._shape(node), self.dialect)

    def _placed_neuron(self, node: Node, module: PlacedNeuron, sources: list[str]) -> None:
        name = str(node.target)
        if not module.is_identity:
            self._append(node, f"{name}.gain", self._scale(node, module), sources)
            sources = self.sources[node]
        self._append(node, name, neuron(name, module.owner, self._shape(node), self.dialect), sources)

    def _layer(self, node: Node, layer: QuantizedLayer, sources: list[str]) -> None:
        name, plan = str(node.target), layer.layer_plan
        shape = self._shape(node.all_input_nodes[0])
        if len(shape) != layer.sample_dims:
            raise refused(name, f"its input has shape {shape} at every step")
        if not layer.in_place:
            self._append(node, f"{name}.neuron", neuron(name, layer, shape, self.dialect), sources)
            sources = [f"{name}.neuron"]
        nir_node = connection(name, layer, self._norm(node), shape, self.dialect)
        made, result = tuple(nir_node.output_type["output"]), self._shape(node)
        if made != result:
            reason = f"its result has shape {result}, and the nir package, which takes every kernel for a square one"
            raise refused(name, f"{reason}, reads it as {tuple(map(int, made))}; deploy it as packed")
        nir_node.metadata = {
            "weight_bits": plan.weight_bits,
            "weight_step": layer.weight_step.detach().flatten().numpy(),
            "spike_step": float(layer.spike_step[0]),
        }
        self._append(node, name, nir_node, sources)

    def _norm(self, node: Node) -> nn.Module | None:
        """The batch norm that alone reads a layer's output."""
        users = list(node.users)
        module = self.modules.get(str(users[0].target)) if len(users) == 1 and users[0].op == "call_module" else None
        if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) or module.running_mean is None:
            return None
        self.norms[users[0]] = module
        return module
