"""Spiking neurons of the user's network, which give way to the refined neurons of the quantized layers behind them.

A quantized layer has a neuron at its own input, with the decay of those that it stands for, as the plan lists them
(:mod:`bitsearch.cost.streams`). The original neuron is replaced by its input scaling (1/threshold), plus a ReLU if
other modules read it; or, where the plan says ``in_place``, by the layer's neuron, standing where the original stood.
"""

from collections.abc import Iterator, Mapping

from torch import nn

from bitsearch.errors import InputError
from bitsearch.frameworks.layers import QUANTIZABLE
from bitsearch.frameworks.neurons import describe, is_neuron
from bitsearch.layers.input_current import InputCurrent
from bitsearch.layers.placed_neuron import PlacedNeuron
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.plan import LayerPlan


def replace_neurons(network: nn.Module, plan: Mapping[str, LayerPlan]) -> None:
    """Replace, in place, every neuron that the layers of ``plan`` stand for."""
    recorded = all(layer.neurons is not None for layer in plan.values())
    if not recorded:
        replaced = [neuron for _, neuron in _neurons_in_front(network)]
    else:
        modules = dict(network.named_modules(remove_duplicate=False))
        paths = [path for layer in plan.values() for path in layer.neurons or ()]
        missing = next((path for path in paths if path not in modules or not is_neuron(modules[path])), None)
        if missing is not None:
            raise InputError(f"the plan names a neuron {missing!r} that the network does not have")
        replaced = [modules[path] for path in paths]
    # What is pooled must be what a neuron makes of it, nothing below zero; a signed layer would see what is.
    of_pooled = {path for layer in plan.values() if layer.pooled or layer.signed_input for path in layer.neurons or ()}
    pooled = [neuron for path, neuron in network.named_modules(remove_duplicate=False) if path in of_pooled]
    device = next(network.parameters()).device
    readers = _readers_in_place(network, plan)
    for path, neuron in list(network.named_modules(remove_duplicate=False)):
        if any(neuron is other for other in replaced):
            parent, _, child = path.rpartition(".")
            description = describe(neuron)
            if neuron in readers:
                current: nn.Module = PlacedNeuron(description.gain, readers[neuron])
            else:
                rectified = not recorded or any(neuron is other for other in pooled)
                current = InputCurrent(description.gain, rectified=rectified)
            if description.interface is not None:
                current = description.interface(neuron, current)
            setattr(network.get_submodule(parent), child, current.to(device))


def _readers_in_place(network: nn.Module, plan: Mapping[str, LayerPlan]) -> dict[nn.Module, QuantizedLayer]:
    """The layer whose numbers a neuron has that stays in its place; InputError where another layer reads it."""
    modules = dict(network.named_modules(remove_duplicate=False))
    readers: dict[nn.Module, list[str]] = {}
    for name, layer in plan.items():
        for path in layer.neurons or ():
            readers.setdefault(modules[path], []).append(name)
    in_place = {}
    for neuron, names in readers.items():
        if not any(plan[name].in_place for name in names):
            continue
        if len(names) > 1:
            raise InputError(
                f"the plan lets a neuron that layers {names[0]!r} and {names[1]!r} read fire in its place; it can have "
                "the bits of one layer only, so leave in_place out of all layers that share their neurons"
            )
        reader = modules[names[0]]
        assert isinstance(reader, QuantizedLayer)
        in_place[neuron] = reader
    return in_place


def _neurons_in_front(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(path, neuron) of every known neuron that is registered in front of a quantized layer.

    So plans were made before what reads what was recorded. A neuron before a layer that keeps 32 bits, or behind the
    last layer, stays.
    """
    waiting: list[tuple[str, nn.Module]] = []
    for path, module in network.named_modules():
        if is_neuron(module):
            waiting.append((path, module))
        elif isinstance(module, QuantizedLayer):
            yield from waiting
            waiting.clear()
        elif type(module) in QUANTIZABLE:
            waiting.clear()
