"""How fine a deployed network's input is encoded, and how far: by the layers that read it."""

from collections.abc import Mapping, Sequence
from math import ceil, floor, log2

from torch import nn
from torch.fx import Graph, Node

from bitsearch.deploy.integer.packed_layer import PackedLayer
from bitsearch.deploy.lower.fixed_point import STEP_BITS
from bitsearch.layers import QuantizedLayer
from bitsearch.layers.neurons.placed_neuron import PlacedNeuron


def readers_of_input(graph: Graph, modules: Mapping[str, nn.Module]) -> list[QuantizedLayer]:
    """Layers whose neurons read the network's input, or what poolings, sums and the like make of it alone."""
    reached: set[Node] = set()
    readers: list[QuantizedLayer] = []
    for node in graph.nodes:
        if node.op != "placeholder" and not reached.intersection(node.all_input_nodes):
            continue
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        layer = module.owner if isinstance(module, PlacedNeuron) else module
        if isinstance(layer, QuantizedLayer):
            readers.append(layer)
        else:
            reached.add(node)
    return readers


def input_fraction(readers: Sequence[QuantizedLayer], first: PackedLayer, bits: int) -> int:
    """Places behind the binary point of an encoding that stays below 2^``bits``.

    As many as the first layer's steps have; more where another layer's are finer, or where they are powers of two,
    which need few: a spike leaves a part of a step, which counts at the next time step. Fewer where an input that a
    reader still tells from larger ones would not fit.
    """
    fraction, most = first.step_fraction, []
    for layer in readers:
        steps = layer.spike_step.detach().double()[: layer.active_steps]
        if len(readers) > 1 or layer.power_of_two:
            fraction = max(fraction, STEP_BITS[1] - 1 - floor(log2(float(steps.max()))))
        # Beyond it, every spike of the layer is its largest.
        reach = float((steps * 2.0 ** layer.spike_bits.detach()[: layer.active_steps]).sum())
        most.append(bits - ceil(log2(reach)))
    return min(fraction, *most)
