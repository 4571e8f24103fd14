"""The table of the chosen plan, the uniform baselines and full precision."""

from collections.abc import Sequence
from dataclasses import dataclass

from bitsearch.plan import BitPlan
from bitsearch.runs.pareto import pareto_front
from bitsearch.runs.plan_names import is_uniform, kind
from bitsearch.runs.run_settings import RunSettings
from bitsearch.runs.verdict import judge
from bitsearch.text import MISSING, aligned, column_unit, score_text, shared_widths, title

USUAL_METRICS = ("bit_budget", "s_ace", "weight_memory")
MIN_COST_COLUMNS = 3
"""Number of cost columns, unless more metrics have a budget."""
MAX_UNIFORM_ROWS = 20
"""Number of uniform plans above which only their front is in the table."""


@dataclass(frozen=True)
class Cell:
    """The text of one number, and True if no plan of the table within the budget has a better number."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Row:
    """The row of one plan."""

    label: str
    note: str
    bits: str
    """``w3 s4 T1`` where all layers but the first agree, else their means: ``mean w4.6 s4.1 T1.6``."""
    cells: tuple[Cell, ...]
    chosen: bool = False


@dataclass(frozen=True)
class PlansTable:
    """(title, unit) of the columns, and the rows."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]


def table_metrics(settings: RunSettings, metrics: Sequence[str]) -> list[str]:
    """The metrics of the table's cost columns: the front's axis, those with a budget, then the usual ones."""
    budget_metrics = [budget.metric for budget in settings.budgets if not budget.of_target]
    names = [name for name in dict.fromkeys([settings.metric, *budget_metrics, *USUAL_METRICS]) if name in metrics]
    return names[: max(MIN_COST_COLUMNS, len(set(budget_metrics)))]


def plans_table(
    plans: Sequence[BitPlan],
    chosen_plan: BitPlan,
    settings: RunSettings,
    metrics: Sequence[str],
    within: BitPlan | None = None,
) -> PlansTable:
    """Full precision, the chosen plan, the uniform plans from cheap to dear, and the best plan of the other kind.

    ``within`` is the cheapest plan within one standard error of the chosen one, and is marked.
    A number is best if no plan of the table within the budget has a better number.
    """
    table_plans = _table_plans(plans, chosen_plan, settings, within)
    score = chosen_plan.measured.score
    values = [
        [plan.measured.validation, plan.measured.test, *(plan.costs.get(name) for name in metrics)]
        for plan in table_plans
    ]
    best = [
        _best(
            [row[column] for row, plan in zip(values, table_plans, strict=True) if plan.met],
            highest=column < 2 and score.direction == "up",
        )
        for column in range(2 + len(metrics))
    ]
    rows = []
    for plan, row in zip(table_plans, values, strict=True):
        texts = [score_text(row[0], score), score_text(row[1], score)]
        texts += [aligned(name, value) for name, value in zip(metrics, row[2:], strict=True)]
        cells = tuple(
            Cell(text, best=plan.met and value is not None and value == best_value)
            for text, value, best_value in zip(texts, row, best, strict=True)
        )
        note = _note(plan, plan == chosen_plan, plan == within)
        rows.append(Row(_label(plan), note, _bits(plan), cells, plan == chosen_plan))
    full_precision, reference = settings.full_precision, settings.reference
    costs = {} if reference is None else reference.costs
    reference_costs = tuple(Cell(aligned(name, costs.get(name))) for name in metrics)
    measured = [Cell(score_text(value, score)) for value in (full_precision.validation, full_precision.test)]
    cells = (*measured, *reference_costs)
    note = "32-bit floats" if reference is None else f"32-bit floats, {reference}"
    names = [(f"{split} {score.name}", score.unit) for split in ("Validation", "Test")]
    titles = (*names, *((title(name), column_unit(name)) for name in metrics))
    return PlansTable(titles, (Row("Full precision", note, MISSING, cells), *rows))


def _table_plans(
    plans: Sequence[BitPlan], chosen_plan: BitPlan, settings: RunSettings, within: BitPlan | None
) -> list[BitPlan]:
    metric = settings.metric
    uniform_plans = [plan for plan in plans if is_uniform(plan) and plan != chosen_plan]
    if len(uniform_plans) > MAX_UNIFORM_ROWS:
        uniform_plans = pareto_front(uniform_plans, metric)
    rival_plan = judge(plans, chosen_plan, metric, by_method=bool(settings.space.search.methods)).rival
    if rival_plan is not None and rival_plan not in uniform_plans:
        uniform_plans.append(rival_plan)
    if within is not None and within not in (chosen_plan, *uniform_plans):
        uniform_plans.append(within)
    return [chosen_plan, *sorted(uniform_plans, key=lambda plan: (is_uniform(plan), plan.costs.get(metric, 0.0)))]


def _best(values: Sequence[float | None], highest: bool) -> float | None:
    numbers = [value for value in values if value is not None]
    return (max if highest else min)(numbers, default=None)


def _label(plan: BitPlan) -> str:
    return f"Uniform {shared_widths(plan) or ''}".rstrip() if is_uniform(plan) else kind(plan).capitalize()


def _bits(plan: BitPlan) -> str:
    layers = plan.layers.values()
    weights, spikes, steps = (
        sum(values) / len(layers)
        for values in (
            [layer.weight_bits for layer in layers],
            [layer.mean_spike_bits for layer in layers],
            [layer.time_steps for layer in layers],
        )
    )
    return shared_widths(plan) or f"mean w{weights:.1f} s{spikes:.1f} T{steps:.1f}"


def _note(plan: BitPlan, is_chosen: bool, is_within: bool) -> str:
    parts = ["chosen"] if is_chosen else []
    parts += [f"trial {plan.provenance.trial}"]
    parts += ["cheapest within one standard error"] if is_within else []
    parts += [] if plan.met else ["over the budget"]
    return ", ".join(parts)
