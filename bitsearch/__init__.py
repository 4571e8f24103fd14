"""bitsearch: how many bits and time steps every layer of a spiking neural network deserves under a budget.

``bitsearch.search(space, budget=...)`` searches, ``bitsearch.quantize(network, example_input)`` makes the bits of your
own network learnable, ``bitsearch.apply(plan, network)`` rebuilds a network from a plan. Everything that users, docs,
messages and published files name is exported here; the modules that define it may move.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bitsearch.version import __version__

if TYPE_CHECKING:
    from bitsearch.allocation.learnable import LearnableNetwork as LearnableNetwork
    from bitsearch.allocation.sensitivity.records import Sensitivities as Sensitivities
    from bitsearch.choices import Choices as Choices
    from bitsearch.choices import FirstLayer as FirstLayer
    from bitsearch.choices import NeuronChoice as NeuronChoice
    from bitsearch.choices import Span as Span
    from bitsearch.choices import Tie as Tie
    from bitsearch.cost.budget import Budget as Budget
    from bitsearch.cost.metrics import METRICS as METRICS
    from bitsearch.cost.target import Target as Target
    from bitsearch.data import DATA_SETS as DATA_SETS
    from bitsearch.data import load_data as load_data
    from bitsearch.data.splits import Splits as Splits
    from bitsearch.data.splits import batches as batches
    from bitsearch.declared_metric import DeclaredMetric as DeclaredMetric
    from bitsearch.declared_neuron import DeclaredNeuron as DeclaredNeuron
    from bitsearch.deploy.integer.packed_file import PackedNetwork as PackedNetwork
    from bitsearch.deploy.integer.packed_file import read as read
    from bitsearch.deploy.pack import pack as pack
    from bitsearch.deploy.verify import verify as verify
    from bitsearch.errors import InputError as InputError
    from bitsearch.errors import StorageError as StorageError
    from bitsearch.frameworks.declared import declare_neuron as declare_neuron
    from bitsearch.layer_rules import LayerRule as LayerRule
    from bitsearch.layer_rules import TieRule as TieRule
    from bitsearch.layers.convert import apply as apply
    from bitsearch.layers.network import QuantizedNetwork as QuantizedNetwork
    from bitsearch.layers.weights import load_weights as load_weights
    from bitsearch.layers.weights import save_weights as save_weights
    from bitsearch.learnable import quantize as quantize
    from bitsearch.models import NETWORKS as NETWORKS
    from bitsearch.models import make_network as make_network
    from bitsearch.plan import BitPlan as BitPlan
    from bitsearch.plan import LayerPlan as LayerPlan
    from bitsearch.plan import NeuronSettings as NeuronSettings
    from bitsearch.plan import UniformBits as UniformBits
    from bitsearch.post_training.reallocation import reallocate as reallocate
    from bitsearch.post_training.run import allocate as allocate
    from bitsearch.report import write_report as write_report
    from bitsearch.report.notebook import plot_front as plot_front
    from bitsearch.report.notebook import summary_html as summary_html
    from bitsearch.report.sensitivity_page import write_sensitivity as write_sensitivity
    from bitsearch.runs.folder import RunFolder as RunFolder
    from bitsearch.runs.rebuild import evaluate_plan as evaluate_plan
    from bitsearch.runs.rebuild import rebuild as rebuild
    from bitsearch.runs.train_plan import train_plan as train_plan
    from bitsearch.space import SearchSpace as SearchSpace
    from bitsearch.study.compare import compare as compare
    from bitsearch.study.merge import merge as merge
    from bitsearch.study.own_study import Study as Study
    from bitsearch.study.result import SearchResult as SearchResult
    from bitsearch.study.result import load as load
    from bitsearch.study.run import search as search
    from bitsearch.study.sensitivity import sensitivity as sensitivity
    from bitsearch.train.evaluate import measure_activity as measure_activity

_MODULES = {
    "DATA_SETS": "bitsearch.data",
    "METRICS": "bitsearch.cost.metrics",
    "NETWORKS": "bitsearch.models",
    "BitPlan": "bitsearch.plan",
    "Budget": "bitsearch.cost.budget",
    "Choices": "bitsearch.choices",
    "DeclaredMetric": "bitsearch.declared_metric",
    "DeclaredNeuron": "bitsearch.declared_neuron",
    "FirstLayer": "bitsearch.choices",
    "InputError": "bitsearch.errors",
    "LayerPlan": "bitsearch.plan",
    "LayerRule": "bitsearch.layer_rules",
    "LearnableNetwork": "bitsearch.allocation.learnable",
    "NeuronChoice": "bitsearch.choices",
    "NeuronSettings": "bitsearch.plan",
    "PackedNetwork": "bitsearch.deploy.integer.packed_file",
    "QuantizedNetwork": "bitsearch.layers.network",
    "RunFolder": "bitsearch.runs.folder",
    "SearchResult": "bitsearch.study.result",
    "SearchSpace": "bitsearch.space",
    "Sensitivities": "bitsearch.allocation.sensitivity.records",
    "Span": "bitsearch.choices",
    "Tie": "bitsearch.choices",
    "Splits": "bitsearch.data.splits",
    "Study": "bitsearch.study.own_study",
    "StorageError": "bitsearch.errors",
    "Target": "bitsearch.cost.target",
    "TieRule": "bitsearch.layer_rules",
    "UniformBits": "bitsearch.plan",
    "allocate": "bitsearch.post_training.run",
    "apply": "bitsearch.layers.convert",
    "batches": "bitsearch.data.splits",
    "compare": "bitsearch.study.compare",
    "declare_neuron": "bitsearch.frameworks.declared",
    "evaluate_plan": "bitsearch.runs.rebuild",
    "load": "bitsearch.study.result",
    "load_data": "bitsearch.data",
    "load_weights": "bitsearch.layers.weights",
    "make_network": "bitsearch.models",
    "merge": "bitsearch.study.merge",
    "measure_activity": "bitsearch.train.evaluate",
    "pack": "bitsearch.deploy.pack",
    "plot_front": "bitsearch.report.notebook",
    "quantize": "bitsearch.learnable",
    "read": "bitsearch.deploy.integer.packed_file",
    "reallocate": "bitsearch.post_training.reallocation",
    "rebuild": "bitsearch.runs.rebuild",
    "save_weights": "bitsearch.layers.weights",
    "search": "bitsearch.study.run",
    "sensitivity": "bitsearch.study.sensitivity",
    "summary_html": "bitsearch.report.notebook",
    "train_plan": "bitsearch.runs.train_plan",
    "verify": "bitsearch.deploy.verify",
    "write_report": "bitsearch.report",
    "write_sensitivity": "bitsearch.report.sensitivity_page",
}
"""Module that defines each public name."""

__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    # On first use, so that the command line answers --help without loading torch.
    if name not in _MODULES:
        raise AttributeError(f"module 'bitsearch' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
