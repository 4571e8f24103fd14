"""What ``log.jsonl`` says about each trial: its epochs, and what was measured at its end."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class TrialHistory:
    """One trial's records; anything that is not what a run writes is left out."""

    epochs: dict[tuple[str, int], Mapping[str, Any]] = field(default_factory=dict)
    """By phase and number, in the order they were first logged; of an epoch logged twice, the later record."""
    firing_rates: dict[str, float] = field(default_factory=dict)
    """Share of non-zero spikes, by layer."""
    layer_costs: dict[str, dict[str, float]] = field(default_factory=dict)
    """By metric and layer, those without bits included; only metrics that add up over the layers."""


def histories(log: Iterable[Any]) -> dict[int | None, TrialHistory]:
    """By trial; None is the full-precision training."""
    found: dict[int | None, TrialHistory] = {}
    for record in log:
        if not isinstance(record, Mapping) or not isinstance(record.get("trial"), (int, type(None))):
            continue
        own = found.setdefault(record.get("trial"), TrialHistory())
        phase, epoch = record.get("phase"), record.get("epoch")
        if phase == "measured":
            own.firing_rates = _numbers(record.get("firing_rates"))
            costs = record.get("layer_costs")
            own.layer_costs = (
                {str(name): _numbers(cost) for name, cost in costs.items()} if isinstance(costs, Mapping) else {}
            )
        elif isinstance(phase, str) and isinstance(epoch, int):
            own.epochs[phase, epoch] = record
    return found


def sample_counts(log: Iterable[Any]) -> dict[str, int]:
    """Samples in each split of the data; empty where the run did not log them."""
    for record in log:
        if isinstance(record, Mapping) and record.get("phase") == "data":
            return {name: int(count) for name, count in _numbers(record.get("samples")).items()}
    return {}


def _numbers(content: object) -> dict[str, float]:
    if not isinstance(content, Mapping):
        return {}
    return {str(name): float(value) for name, value in content.items() if is_number(value)}


def is_number(value: object) -> bool:
    """True for what JSON can write: neither NaN nor infinite."""
    return isinstance(value, (int, float)) and math.isfinite(value)
