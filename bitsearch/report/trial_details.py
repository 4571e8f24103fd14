"""What the page unpacks when a trial is looked at: its plan file, its layers' shares of the cost, its epochs."""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from bitsearch.plan import BitPlan
from bitsearch.report.commands import commands
from bitsearch.report.history import TrialHistory, is_number
from bitsearch.runs.folder import RunFolder
from bitsearch.study.analysis import KINDS
from bitsearch.text import plotly_text

SHARE_DIGITS = 4
LINES = ("loss", "validation_accuracy", "mean_weight_bits", "mean_spike_bits", "mean_time_steps")
"""Of the log, those that are drawn."""


def packed_details(folder: RunFolder, plan: BitPlan, history: TrialHistory) -> str:
    """Base64 of deflated JSON: text hardly any of which differs from trial to trial packs into a few hundred bytes."""
    text = json.dumps(details(folder, plan, history), separators=(",", ":"), ensure_ascii=False)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def details(folder: RunFolder, plan: BitPlan, history: TrialHistory) -> dict[str, Any]:
    """The plan file as exported, each layer's share of every cost that adds up, firing rates, curves, commands."""
    return {
        "plan": plan.to_json(),
        "shares": {name: _shares(costs, plan) for name, costs in history.layer_costs.items() if any(costs.values())},
        "firing": [_rounded(history.firing_rates.get(name)) for name in plan.layers],
        "curves": curves(history),
        "commands": commands(folder, plan),
    }


def _shares(costs: dict[str, float], plan: BitPlan) -> list[float | None]:
    """Of the plan's layers in order; what is missing of 1 falls to layers without bits."""
    total = sum(costs.values())
    return [_rounded(costs[name] / total) if name in costs else None for name in plan.layers]


def curves(history: TrialHistory) -> dict[str, Any]:
    """What moved over the epochs, all phases in a row: lines by key of the log, and every layer's bits."""
    phases = [phase for phase, _ in history.epochs]
    records = list(history.epochs.values())
    numbers = [_measured(record) for record in records]
    total = [own.get("renewals", 0.0) for own in numbers]
    lines = {key: [_rounded(own.get(key), 6) for own in numbers] for key in LINES}
    lines["validation_accuracy"] = [None if one is None else 100 * one for one in lines["validation_accuracy"]]
    # Renewals are counted from the start of a phase in which bits move.
    lines["renewals"] = [max(now - before, 0) for before, now in pairwise([0.0, *total])]
    moved = any(value is not None for value in lines["mean_weight_bits"])
    words = "loss, accuracy and bits over its epochs." if moved else "loss and accuracy; its bits never moved."
    bits = _bits(records)
    return {
        "logged": any(bits),
        "words": words if records else "the run logged none of its epochs.",
        "x": list(range(1, len(records) + 1)),
        "text": [plotly_text(f"{phase}, epoch {number}") for number, phase in enumerate(phases, start=1)],
        "turns": [number + 0.5 for number in range(1, len(phases)) if phases[number] != phases[number - 1]],
        "lines": lines,
        "bits": [[[layer[kind] for layer in layers] for layers in bits] for kind in range(len(KINDS))],
    }


def _measured(record: Mapping[str, Any]) -> dict[str, float]:
    measures = record.get("measures")
    every = {**record, **(measures if isinstance(measures, Mapping) else {})}
    return {str(key): float(value) for key, value in every.items() if is_number(value)}


def _bits(records: Sequence[Mapping[str, Any]]) -> list[list[tuple[float, float, float]]]:
    """Of every epoch and layer (weight bits, mean spike bits, time steps); an epoch that logs none is as the last."""
    filled: list[list[tuple[float, float, float]]] = []
    for record in records:
        try:
            own: list[tuple[float, float, float]] = [
                (int(w), _rounded(sum(s) / len(s), 3), len(s)) for w, s in record.get("bits") or []
            ]
        except (TypeError, ValueError, ZeroDivisionError):
            own = []
        filled.append(own or (filled[-1] if filled else []))
    return filled


def _rounded(value: float | None, digits: int = SHARE_DIGITS) -> Any:
    return None if value is None else float(f"{value:.{digits}g}")
