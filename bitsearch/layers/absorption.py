"""Absorbed ReLUs: an unsigned quantizer clips at zero itself, so a ReLU that only feeds such quantizers does nothing.

Leaving it out saves a pass over every activation and its gradient; spikes, and gradients wherever the input is not
exactly zero, stay the same.
"""

from torch import nn
from torch.fx import Node, Tracer

from bitsearch.layers.quantized import QuantizedLayer


class AbsorbedReLU(nn.Identity):
    """Stands where a ReLU was whose clipping the quantized layers behind it do."""


def absorb_relus(network: nn.Module) -> None:
    """Replace, in place, every ``nn.ReLU`` that is read by nothing but unsigned quantized layers.

    A network that cannot be traced symbolically (control flow that depends on data) is left as it is.
    """
    tracer = _Tracer()
    try:
        graph = tracer.trace(network)
    except Exception:  # a user's forward may raise anything when it is run on symbols
        return
    calls: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls.setdefault(str(node.target), []).append(node)
    modules = dict(network.named_modules())
    for name, nodes in calls.items():
        # A subclass, or a ReLU that somebody watches, is not ours to remove.
        relu = modules[name]
        if type(relu) is nn.ReLU and not relu._forward_hooks and all(_only_quantized(node, modules) for node in nodes):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, AbsorbedReLU())


def _only_quantized(node: Node, modules: dict[str, nn.Module]) -> bool:
    def absorbs(user: Node) -> bool:
        module = modules.get(str(user.target)) if user.op == "call_module" else None
        return isinstance(module, QuantizedLayer) and not module.signed_input

    return bool(node.users) and all(absorbs(user) for user in node.users)


class _Tracer(Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # Only what holds a ReLU or a quantized layer is looked into: a spiking neuron would keep symbols as its state.
        inside = (module for module in m.modules() if module is not m)
        return isinstance(m, QuantizedLayer) or not any(
            isinstance(module, nn.ReLU | QuantizedLayer) for module in inside
        )
