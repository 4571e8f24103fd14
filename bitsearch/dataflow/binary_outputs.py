"""Modules that send nothing but zeros and ones, as spiking neurons of unknown classes do."""

import torch
from torch import Tensor, nn

from bitsearch.dataflow.products import first_tensor
from bitsearch.frameworks.layers import QUANTIZABLE
from bitsearch.frameworks.neurons import is_neuron, is_spiking


class BinaryWatch:
    """Meets every call of one forward pass after it."""

    def __init__(self, network: nn.Module) -> None:
        known = [module for module in network.modules() if is_neuron(module) or is_spiking(module)]
        # A neuron's own parts send what it sends.
        parts = {network, *(part for module in known for part in module.modules())}
        self._watched = {module for module in network.modules() if module not in parts and _may_be_neuron(module)}
        self._values: dict[nn.Module, set[float]] = {}

    def after(self, module: nn.Module, x: Tensor | None, output: object) -> None:
        """A call has ended."""
        result = first_tensor(output)
        if module not in self._watched or x is None or result is None:
            return
        if not result.is_floating_point() or not _is_binary(result) or _is_binary(x):
            self._watched.discard(module)
        else:
            self._values.setdefault(module, set()).update(result.unique().tolist())

    def modules(self) -> list[nn.Module]:
        """Those that sent both, without their parts."""
        sent = [module for module, values in self._values.items() if module in self._watched and len(values) == 2]
        parts = {part for module in sent for part in module.modules() if part is not module}
        return [module for module in sent if module not in parts]


def _may_be_neuron(module: nn.Module) -> bool:
    """Of unknown class, and without layers or norms inside."""
    parts = [part for part in module.modules() if part is not module]
    is_described = any(is_neuron(each) or is_spiking(each) for each in (module, *parts))
    computes = any(type(part) in QUANTIZABLE or list(part.parameters(recurse=False)) for part in parts)
    return not (is_described or computes or type(module) in QUANTIZABLE)


def _is_binary(x: Tensor) -> bool:
    return bool(torch.logical_or(x == 0, x == 1).all())
