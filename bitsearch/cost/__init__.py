"""The cost model: layer geometry, metrics on numbers and on tensors, budgets."""

from bitsearch.cost.budget import Budget
from bitsearch.cost.geometry import LayerGeometry, trace, unquantized
from bitsearch.cost.metrics import METRICS
from bitsearch.cost.model import CostModel

__all__ = ["METRICS", "Budget", "CostModel", "LayerGeometry", "trace", "unquantized"]
