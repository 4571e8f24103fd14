"""What a conversion made of every module of a network, what it left, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from bitsearch.cost import CostModel
from bitsearch.frameworks.layers import QUANTIZABLE
from bitsearch.frameworks.neurons import NeuronInterface, describe, is_neuron, is_spiking
from bitsearch.frameworks.plain_layers import separated
from bitsearch.frameworks.reparametrized import reparametrized
from bitsearch.layers.neurons.absorption import AbsorbedReLU
from bitsearch.layers.neurons.input_current import InputCurrent
from bitsearch.layers.neurons.placed_neuron import PlacedNeuron
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.plan import NeuronSettings


@dataclass(frozen=True)
class Converted:
    """One module."""

    name: str
    """Module path."""
    kind: str
    """Its type before."""
    became: str
    """What it is now; ``left`` if it is what it was."""
    why: str = ""


_RESETS = {
    "subtract": "subtracts its spikes",
    "zero": "is reset to zero by a spike",
    "delayed": "subtracts its spikes a step late",
}


def _settings(modules: Mapping[str, nn.Module], layers: Sequence[str]) -> str:
    """What the refined neurons of ``layers``, which all stand for one neuron, do at a spike, and where they fire."""
    layer = modules[layers[0]] if layers else None
    if not isinstance(layer, QuantizedLayer):
        return ""
    neuron = layer.neuron or NeuronSettings()
    reset = _RESETS[neuron.reset]
    if neuron.threshold == "half":
        return f"{reset}, fires half a step below a level"
    return f"{reset}, fires {'above' if neuron.strict else 'at'} its threshold"


def conversion(before: nn.Module, after: nn.Module, model: CostModel) -> list[Converted]:
    """The layers, spiking neurons and ReLUs of a network, one by one in the order of its modules.

    Args:
        before: the network as it was.
        after: as :func:`bitsearch.layers.convert.convert` returned it.
        model: costs of the network as it was, with what keeps 32 bits and which neurons stay, and why.
    """
    unquantized = {layer.name: layer.fixed_reason or "" for layer in model.unquantized}
    silent = {layer.name for layer in model.layers if layer.silent}
    now = dict(after.named_modules())
    readers: dict[str, list[str]] = {}
    for layer, module in now.items():
        for neuron in (isinstance(module, QuantizedLayer) and module.neurons) or ():
            readers.setdefault(neuron, []).append(layer)
    rows = []
    for name, module in separated(before).named_modules():
        kind = type(module).__name__
        # A neuron's own parts go with it.
        became = now.get(name)
        if became is None:
            continue
        if isinstance(became, QuantizedLayer):
            computed = reparametrized(module)
            notes = [] if computed is None else [f"its weight as {computed} computed it"]
            notes += ["all that it got from the examples was zero"] if name in silent else []
            rows.append(Converted(name, kind, "a quantized layer", "; ".join(notes)))
        elif is_neuron(module) and isinstance(became, InputCurrent | NeuronInterface):
            layers = ", ".join(readers.get(name, []))
            became_neuron = f"the refined neuron of {layers or 'the layers behind it'}"
            notes = [_settings(now, readers.get(name, [])), _place(module, became)]
            rows.append(Converted(name, kind, became_neuron, "; ".join(note for note in notes if note)))
        elif isinstance(became, AbsorbedReLU):
            rows.append(Converted(name, kind, "part of the layers behind it", "their spikes are never below zero"))
        elif name in unquantized and not is_neuron(module):
            rows.append(Converted(name, kind, "left", unquantized[name]))
        elif type(module) in QUANTIZABLE:
            rows.append(Converted(name, kind, "left", "not in the plan"))
        elif is_neuron(module):
            rows.append(Converted(name, kind, "left", model.staying.get(name, "no quantized layer reads it")))
        elif name in model.staying:
            rows.append(Converted(name, kind, "left", model.staying[name]))
        elif is_spiking(module):
            rows.append(Converted(name, kind, "left", "keeps a state that no refined neuron has"))
    return rows


def _place(neuron: nn.Module, became: nn.Module) -> str:
    """Where a neuron fires, if that is not the reader's input."""
    if describe(neuron).sequence_steps is not None:
        return "where it was, step by step"
    placed = isinstance(became.current if isinstance(became, NeuronInterface) else became, PlacedNeuron)
    return "where it was, in front of what works on its spikes" if placed else ""
