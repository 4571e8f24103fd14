"""The details of a selected trial, which the page unpacks: plan file, layers' shares of the cost, epochs."""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from bitsearch.plan import BitPlan
from bitsearch.report import style
from bitsearch.report.commands import commands
from bitsearch.report.history import TrialHistory, is_number
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.pareto import score_column
from bitsearch.score import ACCURACY, Score
from bitsearch.study.analysis import KINDS
from bitsearch.text import percent, plotly_text

SHARE_DIGITS = 4
"""Significant digits of a share of the cost."""
LINE_KEYS = ("loss", "validation_score", "mean_weight_bits", "mean_spike_bits", "mean_time_steps")
"""Keys of the log that the page draws as lines."""


def packed_details(folder: RunFolder, plan: BitPlan, history: TrialHistory) -> str:
    """Base64 of deflated JSON; details of a trial, which repeat themselves, take a few hundred bytes."""
    text = json.dumps(details(folder, plan, history), separators=(",", ":"), ensure_ascii=False)
    # The last level takes three times as long, for a twentieth of the size.
    return base64.b64encode(zlib.compress(text.encode())).decode()


def details(folder: RunFolder, plan: BitPlan, history: TrialHistory) -> dict[str, Any]:
    """The plan file, each layer's share of every cost that is a sum over the layers, firing rates, curves, commands."""
    return {
        "plan": plan.to_json(),
        "shares": {name: _shares(costs, plan) for name, costs in history.layer_costs.items() if any(costs.values())},
        "firing": [_rounded(history.firing_rates.get(name)) for name in plan.layers],
        "curves": curves(history, plan.measured.score),
        "commands": commands(folder, plan),
    }


def _shares(costs: dict[str, float], plan: BitPlan) -> list[float | None]:
    """Shares of the plan's layers, in order; layers without bits have the remainder to 1."""
    total = sum(costs.values())
    return [_rounded(costs[name] / total) if name in costs else None for name in plan.layers]


def curves(history: TrialHistory, score: Score = ACCURACY) -> dict[str, Any]:
    """Curves over the epochs of all phases: lines by key of the log, and the bits of every layer."""
    phases = [phase for phase, _ in history.epochs]
    records = list(history.epochs.values())
    measures_by_epoch = [_measured(record) for record in records]
    renewal_totals = [measures.get("renewals", 0.0) for measures in measures_by_epoch]
    lines = {key: [_rounded(measures.get(key), 6) for measures in measures_by_epoch] for key in LINE_KEYS}
    factor = percent(score)
    lines["validation_score"] = [
        None if (value := measures.get(score_column(score, "validation"))) is None else factor * _rounded(value, 6)
        for measures in measures_by_epoch
    ]
    # The log has the number of renewals since the start of a phase in which bits move.
    lines["renewals"] = [max(current - previous, 0) for previous, current in pairwise([0.0, *renewal_totals])]
    has_bits = any(value is not None for value in lines["mean_weight_bits"])
    name = score.name
    sentence = f"loss, {name} and bits over its epochs." if has_bits else f"loss and {name}; its bits never moved."
    bits = _bits(records)
    return {
        "logged": any(bits),
        "words": sentence if records else "the run logged none of its epochs.",
        "x": list(range(1, len(records) + 1)),
        "tick": style.whole_tick(len(records)),
        "text": [plotly_text(f"{phase}, epoch {number}") for number, phase in enumerate(phases, start=1)],
        "turns": [number + 0.5 for number in range(1, len(phases)) if phases[number] != phases[number - 1]],
        "lines": lines,
        "bits": [[[layer[kind] for layer in layers] for layers in bits] for kind in range(len(KINDS))],
    }


def _measured(record: Mapping[str, Any]) -> dict[str, float]:
    measures = record.get("measures")
    fields = {**record, **(measures if isinstance(measures, Mapping) else {})}
    return {str(key): float(value) for key, value in fields.items() if is_number(value)}


def _bits(records: Sequence[Mapping[str, Any]]) -> list[list[tuple[float, float, float]]]:
    """(weight bits, mean spike bits, time steps) of every layer, by epoch; an epoch without bits repeats them."""
    bits_by_epoch: list[list[tuple[float, float, float]]] = []
    for record in records:
        try:
            bits: list[tuple[float, float, float]] = [
                (int(w), _rounded(sum(s) / len(s), 3), len(s)) for w, s in record.get("bits") or []
            ]
        except (TypeError, ValueError, ZeroDivisionError):
            bits = []
        bits_by_epoch.append(bits or (bits_by_epoch[-1] if bits_by_epoch else []))
    return bits_by_epoch


def _rounded(value: float | None, digits: int = SHARE_DIGITS) -> Any:
    return None if value is None else float(f"{value:.{digits}g}")
