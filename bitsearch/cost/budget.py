"""Budgets such as ``4x`` and ``memory=64KiB``: parsing, limits of the hardware target, feasibility."""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from pydantic import ConfigDict

from bitsearch.cost.declared import check_declared_metric, find_metric
from bitsearch.cost.first_layer import options_of, relaxation
from bitsearch.cost.metrics import METRICS
from bitsearch.cost.model import CostModel, SpikeStatistics
from bitsearch.cost.rules import AllowedBits
from bitsearch.cost.target import Target
from bitsearch.cost.units import UNITS, factor
from bitsearch.errors import InputError, suggestion
from bitsearch.plan import BudgetOutcome, LayerPlan, UniformBits
from bitsearch.validation import Cost, Name

_REQUEST = re.compile(
    r"\s*(?P<number>[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)\s*(?:(?P<ratio>[xX×])|(?P<unit>[^\W\d]\w*))?\s*"
)
_REQUEST_ADVICE = (
    "write a ratio such as 4x (a quarter of the baseline's cost) or a positive number in the metric's unit"
)


@dataclass(frozen=True)
class Budget:
    """A limit on one metric, as the user requested it and in the metric's unit; ``run.toml`` stores it.

    >>> bitsearch.Budget("weight_memory", "64KiB", 65536.0).outcome(50000.0).met
    True
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    metric: Name
    requested: Name
    limit: Cost
    """Largest cost, in the metric's unit."""
    of_target: bool = False
    """True for a limit of the hardware target."""

    @classmethod
    def parse(cls, request: str, metric: str, model: CostModel, baseline: UniformBits) -> "Budget":
        """Parse ``4x`` (at most baseline/4), ``64KiB``, or a metric's number with or without a unit: ``s_ace=65536``.

        Args:
            request: the user's text; ``memory=64KiB`` names its metric.
            metric: name or alias in :data:`bitsearch.cost.metrics.METRICS`, for a request that names none.
            model: costs of the network.
            baseline: uniform bits on every layer, the first one included; ``4x`` is a quarter of their cost.

        Raises:
            InputError: malformed, zero or negative, a bare number, a wrong unit, or a metric that no budget can bind.
        """
        metric, amount = split_request(request, metric, model.target, model.declared)
        if metric not in model.metrics:
            raise InputError(
                f"budget {request!r}: {metric} is a search space's own function, which is not run here; limit another "
                "metric, or begin anew from that space"
            )
        ratio, value = parse_request(amount, metric)
        if ratio and model.needs_activity(metric):
            raise InputError(
                f"budget {request!r}: {metric} depends on how often neurons fire, which the baseline's is not known; "
                f"give a number in {model.metric(metric).unit}"
            )
        limit = model.cost(metric, model.uniform(baseline, None)) / value if ratio else value
        if limit == 0:
            raise InputError(
                f"budget {request!r}: {metric} of the baseline is 0, and nothing costs less; give a number"
            )
        return cls(metric, amount.strip(), limit)

    def check_feasible(self, model: CostModel, rules: AllowedBits, activity: SpikeStatistics | None = None) -> None:
        """Raise InputError, naming the smallest feasible budget, if the cheapest plan costs more.

        A metric that depends on firing rates is not checked without ``activity``.
        """
        check_declared_metric(self.metric, model, rules)
        needs_activity = model.needs_activity(self.metric)
        if needs_activity and activity is None:
            return
        plan = rules.smallest(model)
        least_cost = model.cost(self.metric, plan, activity)
        if least_cost <= self.limit:
            return
        unit = model.metric(self.metric).unit
        unit_text = f" {unit}" if unit else ""
        rates_text = ", at the firing rates measured" if needs_activity else ""
        subject = f"budget {self.requested}"
        advice = "allow more, or widen the choices of the search space"
        relaxed = relaxation(model, rules, lambda plan: model.cost(self.metric, plan, activity) <= self.limit)
        if relaxed:
            fixed = ", ".join(f"{rule.match[0]!r} keeps {_bits_text(plan[rule.match[0]])}" for rule in relaxed)
            advice = (
                f"the first layer {fixed} (first_layer): let it have fewer, {options_of(relaxed)} (layers= in Python), "
                "or allow more"
            )
        if self.of_target:
            layers = model.layer_costs(self.metric, plan, activity)
            largest = max(layers, key=layers.__getitem__)
            share = f"{_round_up(layers[largest])}{unit_text}"
            subject = self.requested
            advice = f"layer {largest!r} alone takes {share}: take another target, or a smaller network"
        raise InputError(
            f"{subject} ({self.metric} ≤ {self.limit:.6g}{unit_text}) is infeasible: the smallest feasible value is "
            f"{_round_up(least_cost)}{unit_text} (the fewest bits allowed on every layer{rates_text}); {advice}"
        )

    def check_counted(self, model: CostModel, activity: SpikeStatistics | None) -> None:
        """Raise InputError if the metric depends on firing rates and ``activity`` is None."""
        if activity is None and model.needs_activity(self.metric):
            raise InputError(
                f"budget {self.requested}: {self.metric} depends on how often neurons fire; count spikes first, "
                "network.activity = bitsearch.measure_activity(network, inputs)"
            )

    def outcome(self, achieved: float) -> BudgetOutcome:
        """The budget and a plan's cost ``achieved``."""
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
    """The requested budgets, then the limits of the hardware target; arguments as for :meth:`Budget.parse`.

    Raises:
        InputError: as :meth:`Budget.parse`, or one metric twice.
    """
    requests = [requests] if isinstance(requests, str) else list(requests)
    if not requests:
        raise InputError("no budget is given; give one such as 4x or memory=64KiB")
    budgets = [Budget.parse(request, metric, model, baseline) for request in requests]
    for index, budget in enumerate(budgets):
        if any(earlier_budget.metric == budget.metric for earlier_budget in budgets[:index]):
            raise InputError(f"two budgets limit {budget.metric}; give the tighter one alone")
    return budgets + target_limits(model.target)


def target_limits(target: Target) -> list[Budget]:
    """The limits of the hardware target: its memory, its accumulators, its cores, its energy and time for one input."""
    source = f"target {target.name}"
    limits = []
    if target.memory is not None and target.memory.weight_bytes is not None:
        limits.append(Budget("weight_memory", source, float(target.memory.weight_bytes), of_target=True))
    if target.memory is not None and target.memory.working_bytes is not None:
        limits.append(Budget("working_memory", source, float(target.memory.working_bytes), of_target=True))
    if target.accumulator_bits is not None:
        limits.append(Budget("accumulator", source, float(target.accumulator_bits), of_target=True))
    if target.cores is not None:
        limits.append(Budget("cores", source, float(target.cores.count), of_target=True))
    if target.energy is not None and target.energy.limit is not None:
        limits.append(Budget("energy", source, target.energy.limit, of_target=True))
    if target.latency is not None and target.latency.limit is not None:
        limits.append(Budget("latency", source, target.latency.limit, of_target=True))
    return limits


def split_request(request: str, metric: str, target: Target, declared: Collection[str] = ()) -> tuple[str, str]:
    """(metric, amount) of ``memory=64KiB``, or (``metric``, amount) of ``4x``.

    Raises:
        InputError: no budget can bind the metric, or a number that is neither a ratio nor one of a named metric.
    """
    name, equals, amount = request.partition("=")
    if equals:
        return check_metric(name.strip(), target, declared), amount
    metric = check_metric(metric, target, declared)
    match = _REQUEST.fullmatch(request)
    if match is not None and not match["ratio"] and not match["unit"] and 0 < float(match["number"]) < math.inf:
        number = match["number"]
        raise InputError(
            f"budget {request!r} can be read in two ways; write {number}x for the baseline's cost divided by {number}, "
            f"or {metric}={number} for at most {number} {METRICS[metric].unit}".rstrip()
        )
    return metric, request


def parse_request(request: str, metric: str) -> tuple[bool, float]:
    """(True for a ratio, number in the metric's unit); InputError if malformed, zero, negative, or of a wrong unit."""
    match = _REQUEST.fullmatch(request) if len(request) <= 100 else None
    if match is None:
        excerpt = request if len(request) <= 100 else request[:97] + "..."
        raise InputError(f"budget {excerpt!r} is not understood; {_REQUEST_ADVICE}")
    value = float(match["number"])
    if match["unit"] and 0 < value < math.inf:
        value = _convert(match["number"], match["unit"], METRICS[metric].unit, request, metric)
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"budget {request!r} is not positive and finite; {_REQUEST_ADVICE}")
    return bool(match["ratio"]), value


def _convert(number: str, unit: str, metric_unit: str, request: str, metric: str) -> float:
    """A decimal number times its unit's factor, rounded once: 2 nJ are 2000 pJ."""
    unit_factor = factor(unit, metric_unit)
    if unit_factor is None:
        units = ", ".join(UNITS.get(metric_unit, ()))
        advice = f"one of {units}, or none for {metric_unit}" if units else f"no unit (it counts {metric_unit})"
        raise InputError(f"budget {request!r}: {unit!r} is no unit of {metric}; give {advice}")
    try:
        return float(Fraction(number) * unit_factor)
    except OverflowError:
        return math.inf


def check_metric(metric: str, target: Target, declared: Collection[str] = ()) -> str:
    """The metric's name for its name or alias; InputError if the target has no such cost.

    ``declared`` are the search space's own, which the message has beside everybody's.
    """
    find_metric(metric)
    name = next((entry.name for entry in METRICS.values() if metric in (entry.name, entry.alias)), None)
    known = [entry for entry in METRICS.values() if entry.everywhere or entry.name in (name, *declared)]
    names = [entry.name for entry in known if entry.available(target)]
    if name in names:
        return str(name)
    if name is None:
        metric_names = [name for entry in known for name in (entry.name, entry.alias) if name]
        raise InputError(
            f"{metric!r} is not a cost metric; allowed on {target.name!r}: {', '.join(names)}"
            f"{suggestion(metric, metric_names)}"
        )
    raise InputError(
        f"{metric!r} needs a hardware target with a table [{METRICS[name].table}], which {target.name!r} has not; "
        f"allowed on it: {', '.join(names)}"
    )


def _bits_text(layer: LayerPlan) -> str:
    return str(UniformBits(weight_bits=layer.weight_bits, spike_bits=layer.spike_bits[0], time_steps=layer.time_steps))


def _round_up(value: float) -> str:
    """``value`` rounded up to six significant digits, so that the number in the message is feasible."""
    digits = 6 - math.ceil(math.log10(value))
    text = f"{math.ceil(value * 10**digits) / 10**digits:.10g}"
    return text if float(text) >= value else repr(value)
