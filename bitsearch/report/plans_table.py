"""The table that sets the chosen plan beside the uniform baselines and full precision."""

from collections.abc import Sequence
from dataclasses import dataclass

from bitsearch.plan import BitPlan
from bitsearch.report.verdict import is_uniform, kind, rival
from bitsearch.runs.folder import RunSettings
from bitsearch.runs.pareto import pareto_front
from bitsearch.text import MISSING, accuracy, aligned, shared_widths, title, unit

USUAL_METRICS = ("bit_budget", "s_ace", "weight_memory")
COST_COLUMNS = 3
MOST_UNIFORM = 20
"""Of more uniform plans, the front of these is shown."""


@dataclass(frozen=True)
class Cell:
    """One number, as it is read."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One plan."""

    label: str
    note: str
    cells: tuple[Cell, ...]
    chosen: bool = False


@dataclass(frozen=True)
class PlansTable:
    """Column headings, each with its unit, and rows."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]


def shown_metrics(settings: RunSettings, known: Sequence[str]) -> list[str]:
    """The costs that matter most in a run: the front's axis, what has a budget, then the usual ones, as room allows."""
    asked = [budget.metric for budget in settings.budgets if not budget.of_target]
    names = [name for name in dict.fromkeys([settings.metric, *asked, *USUAL_METRICS]) if name in known]
    return names[: max(COST_COLUMNS, len(set(asked)))]


def plans_table(plans: Sequence[BitPlan], chosen: BitPlan, settings: RunSettings, metrics: Sequence[str]) -> PlansTable:
    """Full precision, the chosen plan, the best of the other kind, and the best uniform plans from cheap to dear.

    A number is best if no plan shown that meets the budget has a better one.
    """
    shown = _shown(plans, chosen, settings.metric)
    values = [
        [plan.accuracy.validation, plan.accuracy.test, *(plan.costs.get(name) for name in metrics)] for plan in shown
    ]
    best = [
        _best([row[column] for row, plan in zip(values, shown, strict=True) if plan.met], highest=column < 2)
        for column in range(2 + len(metrics))
    ]
    rows = []
    for plan, row in zip(shown, values, strict=True):
        texts = [accuracy(row[0]), accuracy(row[1])]
        texts += [aligned(name, value) for name, value in zip(metrics, row[2:], strict=True)]
        cells = tuple(
            Cell(text, best=plan.met and value is not None and value == top)
            for text, value, top in zip(texts, row, best, strict=True)
        )
        rows.append(Row(_label(plan), _note(plan, plan == chosen), cells, plan == chosen))
    reference = settings.full_precision
    blanks = tuple(Cell(MISSING) for _ in metrics)
    cells = (Cell(accuracy(reference.validation)), Cell(accuracy(reference.test)), *blanks)
    heads = (("Validation accuracy", ""), ("Test accuracy", ""), *((title(name), _unit(name)) for name in metrics))
    return PlansTable(heads, (Row("Full precision", "32-bit floats, no spikes", cells), *rows))


def _shown(plans: Sequence[BitPlan], chosen: BitPlan, metric: str) -> list[BitPlan]:
    others = [plan for plan in plans if is_uniform(plan) and plan != chosen]
    if len(others) > MOST_UNIFORM:
        others = pareto_front(others, metric)
    other = rival(plans, chosen, metric)
    if other is not None and other not in others:
        others.append(other)
    return [chosen, *sorted(others, key=lambda plan: (is_uniform(plan), plan.costs.get(metric, 0.0)))]


def _best(values: Sequence[float | None], highest: bool) -> float | None:
    known = [value for value in values if value is not None]
    return (max if highest else min)(known, default=None)


def _label(plan: BitPlan) -> str:
    return f"Uniform {shared_widths(plan) or ''}".rstrip() if is_uniform(plan) else kind(plan).capitalize()


def _note(plan: BitPlan, chosen: bool) -> str:
    parts = ["chosen"] if chosen else []
    parts += [f"trial {plan.provenance.trial}"]
    parts += [] if plan.met else ["over the budget"]
    return ", ".join(parts)


def _unit(metric: str) -> str:
    return "" if unit(metric) == "bytes" else unit(metric)
