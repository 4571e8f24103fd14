"""Budgets: what ``--budget 4x`` means."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from bitsearch.cost.metrics import METRICS
from bitsearch.cost.model import CostModel
from bitsearch.errors import InputError
from bitsearch.plan import BudgetOutcome, LayerPlan, UniformBits
from bitsearch.space import FirstLayer

_REQUEST = re.compile(r"\s*(?P<number>[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)\s*(?P<ratio>[xX×]?)\s*")
_FORM = "write a ratio such as 4x (a quarter of the baseline's cost) or a positive number in the metric's unit"


@dataclass(frozen=True)
class Budget:
    """A limit on one metric."""

    metric: str
    requested: str
    limit: float

    @classmethod
    def parse(cls, request: str, metric: str, model: CostModel, baseline: UniformBits) -> "Budget":
        """Read ``4x`` (at most baseline/4) or a plain number in the metric's unit.

        Args:
            request: what the user wrote.
            metric: name in :data:`bitsearch.cost.metrics.METRICS`.
            model: costs of the network.
            baseline: uniform bits on every layer, the first one too; its cost is what ``4x`` divides.

        Raises:
            InputError: malformed, zero or negative, or a metric that a budget cannot bind.
        """
        check_metric(metric)
        ratio, value = parse_request(request)
        limit = model.cost(metric, model.uniform(baseline, None)) / value if ratio else value
        return cls(metric, request.strip(), limit)

    def check_feasible(self, model: CostModel, smallest: UniformBits, first_layer: FirstLayer) -> None:
        """Raise InputError, naming the smallest feasible budget, if the cheapest plan costs more."""
        least = model.least(self.metric, smallest, first_layer)
        if least > self.limit:
            unit = METRICS[self.metric].unit
            raise InputError(
                f"budget {self.requested} ({self.metric} ≤ {self.limit:.6g} {unit}) is infeasible: "
                f"the smallest feasible value is {_round_up(least)} ({smallest} on every searched layer); "
                "allow more, widen the choices of the search space, or give its first layer fewer bits"
            )

    def outcome(self, achieved: float) -> BudgetOutcome:
        """This budget beside what a plan achieves."""
        return BudgetOutcome(
            metric=self.metric,
            requested=self.requested,
            limit=self.limit,
            achieved=achieved,
            met=achieved <= self.limit,
        )

    def met_by(self, model: CostModel, plan: Mapping[str, LayerPlan]) -> bool:
        """True if the plan costs at most the limit."""
        return model.cost(self.metric, plan) <= self.limit


def parse_request(request: str) -> tuple[bool, float]:
    """(is it a ratio, its number); InputError if malformed, zero or negative."""
    match = _REQUEST.fullmatch(request)
    if match is None:
        raise InputError(f"budget {request!r} is not understood; {_FORM}")
    value = float(match["number"])
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"budget {request!r} is not positive and finite; {_FORM}")
    return bool(match["ratio"]), value


def check_metric(metric: str) -> None:
    """Raise InputError unless a budget can bind the metric."""
    usable = [name for name, entry in METRICS.items() if not entry.needs_firing_rates]
    if metric not in usable:
        known = "is only known after training" if metric in METRICS else "is not a cost metric"
        raise InputError(f"{metric!r} {known}; a budget can bind: {', '.join(usable)}")


def _round_up(value: float) -> str:
    """Six significant digits, never below ``value``, so that what the message says is feasible indeed."""
    digits = 6 - math.ceil(math.log10(value))
    text = f"{math.ceil(value * 10**digits) / 10**digits:.10g}"
    return text if float(text) >= value else repr(value)
