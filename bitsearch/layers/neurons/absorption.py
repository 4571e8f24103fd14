"""Absorbed ReLUs: an unsigned quantizer clips at zero itself, so a ReLU that only feeds such quantizers does nothing.

Leaving it out saves a pass over every activation and its gradient; spikes, and gradients wherever the input is not
exactly zero, stay the same. With a time axis the ReLU matters: negative input lowers the membrane and affects later
frames. There a ReLU stays; but what a spiking neuron left behind is made to pass negative currents on, as that neuron
integrated them.
"""

import copy
from collections.abc import Iterator

from torch import nn
from torch.fx import Node, Tracer

from bitsearch.layers.neurons.input_current import InputCurrent
from bitsearch.layers.quantized import QuantizedLayer


class AbsorbedReLU(nn.Identity):
    """Stands where a ReLU was whose clipping the quantized layers behind it do."""


def absorb_relus(network: nn.Module, *, currents: bool) -> None:
    """Replace, in place, every ``nn.ReLU`` that is read by nothing but unsigned quantized layers without a time axis.

    With ``currents``, an :class:`InputCurrent` that is read by nothing but unsigned quantized layers is no longer
    rectified; plans that say what reads what have told it already.

    A network that cannot be traced symbolically (control flow that depends on data), or with hooks, which may read or
    change what is between the layers, is left as it is.
    """
    if any(_watched(module) for module in network.modules()):
        return
    absorbed: set[str] | None = None
    try:
        # A forward pass may do different things in training and in evaluation.
        for training in (True, False):
            relus = set(_droppable(network, training))
            absorbed = relus if absorbed is None else absorbed & relus
    except Exception:  # a user's forward may raise anything when it is run on symbols
        return
    for name in absorbed or ():
        module = network.get_submodule(name)
        if isinstance(module, InputCurrent):
            module.rectified = module.rectified and not currents
            continue
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, AbsorbedReLU())


def _watched(module: nn.Module) -> bool:
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks)


def _droppable(network: nn.Module, training: bool) -> Iterator[str]:
    """Paths of the ReLUs that do nothing in training, or in evaluation."""
    # A copy, so that no symbol stays in what a forward pass keeps; with the same weights, to save memory.
    network = copy.deepcopy(network, {id(parameter): parameter for parameter in network.parameters()})
    graph = _Tracer().trace(network.train(training))
    calls: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls.setdefault(str(node.target), []).append(node)
    modules = dict(network.named_modules())
    for name, nodes in calls.items():
        # A subclass is not ours to remove.
        kind = type(modules[name])
        if kind in (nn.ReLU, InputCurrent) and all(_only_quantized(node, modules, kind) for node in nodes):
            yield name


def _only_quantized(node: Node, modules: dict[str, nn.Module], kind: type[nn.Module]) -> bool:
    def absorbs(user: Node) -> bool:
        module = modules.get(str(user.target)) if user.op == "call_module" else None
        if not isinstance(module, QuantizedLayer) or module.signed_input:
            return False
        return kind is InputCurrent or module.frames is None

    # What else reads the ReLU's input may rely on the ReLU's working in place, or change that input in place itself.
    alone = all(len(operand.users) == 1 for operand in node.all_input_nodes)
    return alone and bool(node.users) and all(absorbs(user) for user in node.users)


class _Tracer(Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # Only what holds a ReLU or a quantized layer is looked into: a spiking neuron would keep symbols as its state.
        inside = (module for module in m.modules() if module is not m)
        return isinstance(m, QuantizedLayer) or not any(
            isinstance(module, nn.ReLU | InputCurrent | QuantizedLayer) for module in inside
        )
