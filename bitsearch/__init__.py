"""bitsearch: how many bits and time steps every layer of a spiking neural network deserves under a budget.

``bitsearch.search(space, budget=...)`` searches, ``bitsearch.quantize(network, example_input)`` makes the bits of your
own network learnable, ``bitsearch.apply(plan, network)`` rebuilds a network from a plan.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bitsearch.version import __version__

if TYPE_CHECKING:
    from bitsearch.allocate.learnable import quantize as quantize
    from bitsearch.errors import InputError as InputError
    from bitsearch.layers.convert import apply as apply
    from bitsearch.layers.network import QuantizedNetwork as QuantizedNetwork
    from bitsearch.layers.weights import load_weights as load_weights
    from bitsearch.layers.weights import save_weights as save_weights
    from bitsearch.plan import BitPlan as BitPlan
    from bitsearch.report import write_report as write_report
    from bitsearch.space import SearchSpace as SearchSpace
    from bitsearch.study.run import search as search

_PUBLIC = {
    "BitPlan": "bitsearch.plan",
    "InputError": "bitsearch.errors",
    "QuantizedNetwork": "bitsearch.allocate.learnable",
    "SearchSpace": "bitsearch.space",
    "apply": "bitsearch.layers.convert",
    "load_weights": "bitsearch.layers.weights",
    "quantize": "bitsearch.allocate.learnable",
    "save_weights": "bitsearch.layers.weights",
    "write_report": "bitsearch.report",
}

__all__ = ["__version__", "search", *_PUBLIC]


def __getattr__(name: str) -> Any:
    # On first use, so that the command line answers --help without loading torch.
    if name == "search":
        return import_module("bitsearch.search")
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'bitsearch' has no attribute {name!r}")
