"""The cost model: layer geometry, metrics on numbers and on tensors, hardware targets, budgets."""

from bitsearch.cost.budget import Budget, parse_budgets, target_limits
from bitsearch.cost.geometry import LayerGeometry
from bitsearch.cost.layer_choices import check_first_layer, check_granularity, warn_of_own_steps
from bitsearch.cost.measurement import measure
from bitsearch.cost.metrics import METRICS
from bitsearch.cost.model import CostModel, SpikeStatistics
from bitsearch.cost.rules import AllowedBits
from bitsearch.cost.target import Target
from bitsearch.cost.ties import ties_of
from bitsearch.cost.tracing import trace

__all__ = [
    "METRICS",
    "AllowedBits",
    "Budget",
    "CostModel",
    "LayerGeometry",
    "SpikeStatistics",
    "Target",
    "check_first_layer",
    "check_granularity",
    "measure",
    "parse_budgets",
    "target_limits",
    "ties_of",
    "trace",
    "warn_of_own_steps",
]
