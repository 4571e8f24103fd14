"""Budgets: what ``--budget 4x`` and ``--budget memory=64KiB`` mean."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import ConfigDict

from bitsearch.cost.metrics import METRICS
from bitsearch.cost.model import CostModel, SpikeStatistics
from bitsearch.cost.rules import AllowedBits
from bitsearch.cost.target import Target
from bitsearch.errors import InputError
from bitsearch.plan import BudgetOutcome, LayerPlan, UniformBits
from bitsearch.validation import Cost, Name

_REQUEST = re.compile(
    r"\s*(?P<number>[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)\s*(?:(?P<ratio>[xX×])|(?P<unit>[^\W\d]\w*))?\s*"
)
_FORM = "write a ratio such as 4x (a quarter of the baseline's cost) or a positive number in the metric's unit"

UNITS: dict[str, dict[str, float]] = {
    "bytes": {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "pJ": {"pJ": 1, "nJ": 1e3, "uJ": 1e6, "mJ": 1e9, "J": 1e12},
    "s": {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1},
}
"""Units that a budget may be written in, by the unit of its metric, and how much of that they are; other metrics are
plain numbers."""


@dataclass(frozen=True)
class Budget:
    """A limit on one metric, as it was asked for and what it stands for; ``run.toml`` holds it so.

    >>> Budget("weight_memory", "64KiB", 65536.0).outcome(50000.0).met
    True
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    metric: Name
    requested: Name
    limit: Cost
    """In the metric's unit."""
    of_target: bool = False
    """True for a limit that the hardware target sets, not the user."""

    @classmethod
    def parse(cls, request: str, metric: str, model: CostModel, baseline: UniformBits) -> "Budget":
        """Read ``4x`` (at most baseline/4) or a number, with or without a unit: ``65536``, ``64KiB``, ``2uJ``.

        Args:
            request: what the user wrote; ``memory=64KiB`` names its metric itself.
            metric: name or alias in :data:`bitsearch.cost.metrics.METRICS`, where the request names none.
            model: costs of the network.
            baseline: uniform bits on every layer, the first one too; its cost is what ``4x`` divides.

        Raises:
            InputError: malformed, zero or negative, a wrong unit, or a metric that a budget cannot bind.
        """
        metric, amount = split_request(request, metric, model.target)
        ratio, value = parse_request(amount, metric)
        if ratio and model.needs_activity(metric):
            raise InputError(
                f"budget {request!r}: {metric} depends on how often neurons fire, which the baseline's is not known; "
                f"give a number in {METRICS[metric].unit}"
            )
        limit = model.cost(metric, model.uniform(baseline, None)) / value if ratio else value
        return cls(metric, amount.strip(), limit)

    def check_feasible(self, model: CostModel, rules: AllowedBits, activity: SpikeStatistics | None = None) -> None:
        """Raise InputError, naming the smallest feasible budget, if the cheapest plan costs more.

        A metric that depends on how often neurons fire cannot be judged without ``activity``.
        """
        fires = model.needs_activity(self.metric)
        if fires and activity is None:
            return
        least = model.cost(self.metric, rules.smallest(model), activity)
        if least <= self.limit:
            return
        unit = METRICS[self.metric].unit
        measured = ", at the firing rates measured" if fires else ""
        what = f"budget {self.requested}"
        advice = "allow more, widen the choices of the search space, or give its first layer fewer bits"
        if self.of_target:
            what, advice = self.requested, "take another target, or a smaller network"
        raise InputError(
            f"{what} ({self.metric} ≤ {self.limit:.6g} {unit}) is infeasible: the smallest feasible value is "
            f"{_round_up(least)} {unit} (the fewest bits allowed on every layer{measured}); {advice}"
        )

    def check_counted(self, model: CostModel, activity: SpikeStatistics | None) -> None:
        """Raise InputError if the metric depends on how often neurons fire, and no spikes have been counted."""
        if activity is None and model.needs_activity(self.metric):
            raise InputError(
                f"budget {self.requested}: {self.metric} depends on how often neurons fire; count spikes first, "
                "network.activity = bitsearch.measure_activity(network, inputs)"
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

    def met_by(self, model: CostModel, plan: Mapping[str, LayerPlan], activity: SpikeStatistics | None = None) -> bool:
        """True if the plan costs at most the limit."""
        return model.cost(self.metric, plan, activity) <= self.limit


def parse_budgets(requests: str | Iterable[str], metric: str, model: CostModel, baseline: UniformBits) -> list[Budget]:
    """Every budget that was asked for, then the limits of the hardware target; arguments as for :meth:`Budget.parse`.

    Raises:
        InputError: as :meth:`Budget.parse`, or one metric twice.
    """
    requests = [requests] if isinstance(requests, str) else list(requests)
    if not requests:
        raise InputError("no budget is given; give one such as 4x or memory=64KiB")
    budgets = [Budget.parse(request, metric, model, baseline) for request in requests]
    for index, budget in enumerate(budgets):
        if any(other.metric == budget.metric for other in budgets[:index]):
            raise InputError(f"two budgets limit {budget.metric}; give the tighter one alone")
    return budgets + target_limits(model.target)


def target_limits(target: Target) -> list[Budget]:
    """What fits the target at all: its memory and its cores."""
    source = f"target {target.name}"
    limits = []
    if target.memory is not None and target.memory.weight_bytes is not None:
        limits.append(Budget("weight_memory", source, float(target.memory.weight_bytes), of_target=True))
    if target.memory is not None and target.memory.working_bytes is not None:
        limits.append(Budget("working_memory", source, float(target.memory.working_bytes), of_target=True))
    if target.cores is not None:
        limits.append(Budget("cores", source, float(target.cores.count), of_target=True))
    return limits


def split_request(request: str, metric: str, target: Target) -> tuple[str, str]:
    """(metric, amount) of ``memory=64KiB``; of ``4x``, the given metric. InputError if a budget cannot bind it."""
    name, equals, amount = request.partition("=")
    return check_metric(name.strip() if equals else metric, target), amount if equals else request


def parse_request(request: str, metric: str) -> tuple[bool, float]:
    """(is it a ratio, its number in the metric's unit); InputError if malformed, zero or negative, or a wrong unit."""
    match = _REQUEST.fullmatch(request) if len(request) <= 100 else None
    if match is None:
        shown = request if len(request) <= 100 else request[:97] + "..."
        raise InputError(f"budget {shown!r} is not understood; {_FORM}")
    value = float(match["number"])
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"budget {request!r} is not positive and finite; {_FORM}")
    if match["unit"]:
        value = _converted(value, match["unit"], METRICS[metric].unit, request, metric)
    return bool(match["ratio"]), value


def _converted(value: float, unit: str, into: str, request: str, metric: str) -> float:
    allowed = UNITS.get(into, {})
    if unit not in allowed:
        right = f"one of {', '.join(allowed)}, or none for {into}" if allowed else f"no unit (it counts {into})"
        raise InputError(f"budget {request!r}: {unit!r} is no unit of {metric}; give {right}")
    return value * allowed[unit]


def check_metric(metric: str, target: Target) -> str:
    """The metric's name, of its name or alias; InputError if a budget cannot bind it."""
    name = next((entry.name for entry in METRICS.values() if metric in (entry.name, entry.alias)), None)
    usable = [entry.name for entry in METRICS.values() if entry.available(target)]
    if name in usable:
        return str(name)
    if name is None:
        raise InputError(f"{metric!r} is not a cost metric; a budget can bind: {', '.join(usable)}")
    raise InputError(
        f"{metric!r} needs a hardware target with a table [{METRICS[name].table}], which {target.name!r} has not; "
        f"on it, a budget can bind: {', '.join(usable)}"
    )


def _round_up(value: float) -> str:
    """Six significant digits, never below ``value``, so that what the message says is feasible indeed."""
    digits = 6 - math.ceil(math.log10(value))
    text = f"{math.ceil(value * 10**digits) / 10**digits:.10g}"
    return text if float(text) >= value else repr(value)
