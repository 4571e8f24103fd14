"""A layer's neuron as nodes with quantizers: its spikes, time step by time step."""

from collections.abc import Sequence

from bitsearch.deploy.formats.qonnx.graph import GraphBuilder
from bitsearch.deploy.integer.fields import DECAY_FRACTION
from bitsearch.deploy.integer.packed_layer import LayerNumbers, PackedLayer
from bitsearch.quant.uniform import q_max


def fired(graph: GraphBuilder, layer: PackedLayer, numbers: LayerNumbers, currents: Sequence[str]) -> list[str]:
    """The spikes code_t·s_t of every time step's current."""
    steps = [step * 2.0**-layer.step_fraction for step in numbers.steps.tolist()]
    decay = layer.decay * 2.0**-DECAY_FRACTION
    spikes: list[str] = []
    membrane = ""
    for t, step in enumerate(steps):
        current = _stored(graph, layer, currents[t], step)
        membrane = _stored(graph, layer, graph.node("Add", membrane, current), step, half=0) if spikes else current
        spikes.append(_spike(graph, layer, t, membrane, step))
        if t + 1 < layer.time_steps:
            membrane = graph.times(_residual(graph, layer, membrane, spikes[t]), decay)
            if layer.decay not in (0, 1 << DECAY_FRACTION):
                membrane = _stored(graph, layer, membrane, step)
    return spikes


def _spike(graph: GraphBuilder, layer: PackedLayer, t: int, membrane: str, step: float) -> str:
    bits = layer.spike_bits[t]
    if layer.signed and bits == 1:
        return graph.node("BipolarQuant", membrane, graph.constant(step))
    # ⌊u/s + ½⌋, ties upward, ⌊u/s⌋ or ⌈u/s⌉ − 1: a quantizer's own rounding to the nearest takes ties to even numbers.
    shifted = graph.plus(membrane, step / 2 if layer.threshold == "half" else -step if layer.strict else 0)
    largest = layer.q_max(t)
    if largest < q_max(bits, signed=layer.signed):
        shifted = graph.node("Min", shifted, graph.constant(largest * step))
    rounding = "CEIL" if layer.strict else "FLOOR"
    return graph.quant(shifted, step, bits, signed=layer.signed, narrow=layer.signed, rounding=rounding)


def _residual(graph: GraphBuilder, layer: PackedLayer, membrane: str, spike: str) -> str:
    if layer.reset == "subtract":
        return graph.node("Sub", membrane, spike)
    silent = graph.node("Equal", spike, graph.constant(0))
    return graph.node("Where", silent, membrane, graph.constant(0))


def _stored(graph: GraphBuilder, layer: PackedLayer, membrane: str, step: float, half: float = 0.5) -> str:
    """A membrane that has a width, to the nearest unit and saturated, and one without as it is.

    Where it is a whole number of units already, there is no ``half`` of one to add.
    """
    if layer.membrane_bits is None:
        return membrane
    unit = step / layer.membrane.units
    nearest = graph.plus(membrane, half * unit)
    return graph.quant(nearest, unit, layer.membrane_bits, signed=True, narrow=False, rounding="FLOOR")
