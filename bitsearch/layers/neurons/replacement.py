"""Spiking neurons of the user's network, which give way to the refined neurons of the quantized layers behind them.

A quantized layer has a neuron at its own input, with the decay of those that it stands for, as the plan lists them
(:mod:`bitsearch.cost.streams`). The original neuron is replaced by its input scaling (1/threshold), plus a ReLU if
other modules read it; or, where the plan says ``in_place``, by the layer's neuron, standing where the original stood.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from bitsearch.errors import InputError
from bitsearch.frameworks.layers import QUANTIZABLE
from bitsearch.frameworks.neurons import describe, is_neuron
from bitsearch.layers.neurons.input_current import InputCurrent
from bitsearch.layers.neurons.placed_neuron import PlacedNeuron
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.layers.sharing import share_spike_steps
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
    every = dict(network.named_modules(remove_duplicate=False))
    owners: dict[nn.Module, list[QuantizedLayer]] = {}
    for neurons, names in _streams(network, plan):
        stream: list[Any] = [every[name] for name in names]
        share_spike_steps(stream)
        owners |= dict.fromkeys(neurons, stream)
    for path, neuron in list(network.named_modules(remove_duplicate=False)):
        if any(neuron is other for other in replaced):
            parent, _, child = path.rpartition(".")
            description = describe(neuron)
            if recorded and description.irreplaceable is not None:
                raise InputError(
                    f"the plan replaces neuron {path!r}, but as it is now no refined neuron can stand for it: "
                    f"{description.irreplaceable}; make a plan of this network"
                )
            if neuron in owners:
                readers = [
                    layer for layer in owners[neuron] if any(every[name] is neuron for name in layer.neurons or ())
                ]
                current: nn.Module = PlacedNeuron(description.gain, owners[neuron][0], readers)
            else:
                rectified = not recorded or any(neuron is other for other in pooled)
                current = InputCurrent(description.gain, rectified=rectified, neuron_class=type(neuron).__name__)
            if description.interface is not None:
                current = description.interface(neuron, current)
            setattr(network.get_submodule(parent), child, current.to(device))


def _streams(network: nn.Module, plan: Mapping[str, LayerPlan]) -> Iterator[tuple[set[nn.Module], list[str]]]:
    """(neurons that stay in their places, the layers that read any of them), group by group.

    Raises:
        InputError: the layers do not all say ``in_place``, or have other spike bits, time steps or decays.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    groups: list[tuple[set[nn.Module], list[str]]] = []
    for name, layer in plan.items():
        neurons = {modules[path] for path in layer.neurons or ()}
        joined = [group for group in groups if group[0] & neurons]
        groups = [group for group in groups if not group[0] & neurons]
        names = [other for _, members in joined for other in members]
        groups.append((neurons.union(*(joined_neurons for joined_neurons, _ in joined)), [*names, name]))
    for neurons, names in groups:
        if not any(plan[name].in_place for name in names):
            continue
        first = plan[names[0]]
        for name in names[1:]:
            for number in ("in_place", "spike_bits", "time_steps", "decay", "frames", "loop"):
                if getattr(first, number) != getattr(plan[name], number):
                    raise InputError(
                        f"layers {names[0]!r} and {name!r} read a neuron that fires in its place, and the plan has "
                        f"{number} {getattr(first, number)} and {getattr(plan[name], number)}; give both the same"
                    )
        yield neurons, sorted(names, key=list(plan).index)


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
