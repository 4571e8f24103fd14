"""A network in the form in which it is quantized: every weight that can get bits is that of a layer, and its own.

So nothing computes it from others, and no neuron keeps it to itself.
"""

import copy
from collections.abc import Callable

from torch import nn

from bitsearch.frameworks.neurons import describe, is_neuron, reset_states
from bitsearch.frameworks.reparametrized import detach_computed_weights, fuse_weights, reparametrized


def has_plain_layers(network: nn.Module) -> bool:
    """True if it is in this form already."""
    return not separable(network) and not any(reparametrized(module) for module in network.modules())


def with_plain_layers(network: nn.Module) -> nn.Module:
    """A copy in this form, with weights of its own."""
    # What a neuron keeps of its last input belongs to a graph that cannot be copied.
    reset_states(network)
    detach_computed_weights(network)
    network = copy.deepcopy(network)
    _separate(network)
    fuse_weights(network)
    return network


def separated(network: nn.Module) -> nn.Module:
    """The network; or one with the same parameters, where neurons with weights of their own are taken apart."""
    if not separable(network):
        return network
    reset_states(network)
    detach_computed_weights(network)
    network = copy.deepcopy(network, {id(parameter): parameter for parameter in network.parameters()})
    _separate(network)
    return network


def separable(network: nn.Module) -> dict[str, Callable[[nn.Module], nn.Module]]:
    """By module path, how neurons with weights of their own come apart; those with hooks, which may read them, stay."""
    parts = {}
    for path, module in network.named_modules(remove_duplicate=False):
        parts_of = describe(module).separated if path and is_neuron(module) else None
        if parts_of is not None and not (module._forward_hooks or module._forward_pre_hooks):
            parts[path] = parts_of
    return parts


def _separate(network: nn.Module) -> None:
    """Put layers and a neuron where a neuron has weights of its own, in place."""
    made: dict[nn.Module, nn.Module] = {}
    for path, parts_of in separable(network).items():
        parent, _, child = path.rpartition(".")
        neuron = network.get_submodule(path)
        if neuron not in made:
            made[neuron] = parts_of(neuron)
        setattr(network.get_submodule(parent), child, made[neuron])
