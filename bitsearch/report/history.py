"""The records of each trial in ``log.jsonl``: its epochs, and the measurements at its end."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class TrialHistory:
    """One trial's records; records of another form are left out."""

    epochs: dict[tuple[str, int], Mapping[str, Any]] = field(default_factory=dict)
    """Records by phase and epoch, in the order of their first record; a repeated epoch has its last record."""
    firing_rates: dict[str, float] = field(default_factory=dict)
    """Share of non-zero spikes, by layer."""
    layer_costs: dict[str, dict[str, float]] = field(default_factory=dict)
    """Costs by metric and layer, layers without bits included; only of metrics that are sums over the layers."""


def histories(log: Iterable[Any]) -> dict[int | None, TrialHistory]:
    """Histories by trial; None is the full-precision training."""
    histories_by_trial: dict[int | None, TrialHistory] = {}
    for record in log:
        if not isinstance(record, Mapping) or not isinstance(record.get("trial"), (int, type(None))):
            continue
        history = histories_by_trial.setdefault(record.get("trial"), TrialHistory())
        phase, epoch = record.get("phase"), record.get("epoch")
        if phase == "measured":
            history.firing_rates = _numbers(record.get("firing_rates"))
            costs = record.get("layer_costs")
            history.layer_costs = (
                {str(name): _numbers(cost) for name, cost in costs.items()} if isinstance(costs, Mapping) else {}
            )
        elif isinstance(phase, str) and isinstance(epoch, int):
            history.epochs[phase, epoch] = record
    return histories_by_trial


def sample_counts(log: Iterable[Any]) -> dict[str, int]:
    """Number of samples in each split of the data; empty if the run did not log them."""
    for record in log:
        if isinstance(record, Mapping) and record.get("phase") == "data":
            return {name: int(count) for name, count in _numbers(record.get("samples")).items()}
    return {}


def class_counts(log: Iterable[Any]) -> dict[str, int]:
    """Number of validation samples of each class; empty if the run did not log them."""
    for record in log:
        if isinstance(record, Mapping) and record.get("phase") == "data":
            classes = record.get("classes")
            counts = _numbers(classes.get("validation") if isinstance(classes, Mapping) else None)
            return {name: int(count) for name, count in counts.items()} if sum(counts.values()) >= 1 else {}
    return {}


def _numbers(content: object) -> dict[str, float]:
    if not isinstance(content, Mapping):
        return {}
    return {str(name): float(value) for name, value in content.items() if is_number(value)}


def is_number(value: object) -> bool:
    """True for a finite number, which JSON can represent."""
    return isinstance(value, (int, float)) and math.isfinite(value)
