"""Tables for the terminal."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bitsearch import text as shown_as
from bitsearch.report.comparison import comparison_table
from bitsearch.report.plans_table import table_metrics

if TYPE_CHECKING:
    from bitsearch.plan import BitPlan
    from bitsearch.study.compare import Comparison
    from bitsearch.study.run import SearchResult

SHOWN_BASELINES = 8


def print_result(result: "SearchResult", page: Path, console: Console) -> None:
    """The chosen plan beside the uniform baselines and full precision, its layers, and where everything is."""
    best, settings = result.best, result.folder.settings
    shown = table_metrics(settings, list(best.costs))
    title = f"{settings.space.name} at {settings.request}"
    table = Table(title=title, title_justify="left")
    table.add_column("plan", no_wrap=True)
    for column in ("validation", "test"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in map(shown_as.title, shown):
        table.add_column(column, justify="right")

    def add(label: str, plan: "BitPlan", style: str = "") -> None:
        accuracy = plan.accuracy
        costs = [shown_as.amount(name, plan.costs[name]) for name in shown]
        measured = (shown_as.accuracy(accuracy.validation), shown_as.accuracy(accuracy.test))
        table.add_row(Text(label), *measured, *costs, style=style)

    add(f"chosen: {describe(best)}", best, "bold green")
    for plan in result.uniform[:SHOWN_BASELINES]:
        add(describe(plan), plan)
    full = settings.full_precision
    measured = (shown_as.accuracy(full.validation), shown_as.accuracy(full.test))
    table.add_row("full precision", *measured, *[shown_as.MISSING] * len(shown))
    console.print(table)
    if len(result.uniform) > SHOWN_BASELINES:
        console.print(f"({len(result.uniform) - SHOWN_BASELINES} more uniform baselines in the report.)")
    console.print(_layers(best))
    for budget, outcome in zip(settings.budgets, best.budget, strict=True):
        achieved, limit = (shown_as.cost(outcome.metric, value, 6) for value in (outcome.achieved, outcome.limit))
        asked = outcome.requested if budget.of_target else f"budget {outcome.requested}"
        console.print(f"{asked}: {shown_as.title(outcome.metric)} {achieved} of at most {limit}", highlight=False)
    console.print(_verdict(result), highlight=False)
    for what, path in (("plan", result.folder.chosen_file), ("report", page), ("run", result.folder.path)):
        console.print(f"{what:<7}{path}", highlight=False, soft_wrap=True)


def print_comparison(found: "Comparison", page: Path, console: Console) -> None:
    """One line a method, and where everything is."""
    settings = found.runs[0].folder.settings
    heads, rows = comparison_table(found)
    table = Table(title=f"{settings.space.name} at {settings.request}", title_justify="left")
    table.add_column("method", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(row.method, *(Text(cell.text, style="bold green" if cell.best else "") for cell in row.cells))
    console.print(table)
    for what, path in (("table", found.path / "comparison.csv"), ("page", page), ("runs", found.path)):
        console.print(f"{what:<7}{path}", highlight=False, soft_wrap=True)


def describe(plan: "BitPlan") -> str:
    """``uniform 1/3/1``, or ``adaptive 4``, with its trial."""
    if plan.provenance.method != "uniform":
        return f"{plan.provenance.method} {plan.provenance.trial}"
    # The first layer has bits of its own, and a hardware target may fix the last one's.
    layers = list(plan.layers.values())[1:] or list(plan.layers.values())
    bits = Counter(f"{layer.weight_bits}/{layer.spike_bits[0]}/{layer.time_steps}" for layer in layers)
    return f"uniform {bits.most_common(1)[0][0]}"


def _layers(plan: "BitPlan") -> Table:
    table = Table(title="The chosen plan", title_justify="left")
    for column in ("layer", "weight bits", "spike bits per step", "time steps"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for name, layer in plan.layers.items():
        spikes = " ".join(str(bits) for bits in layer.spike_bits)
        table.add_row(Text(name), str(layer.weight_bits), spikes, str(layer.time_steps))
    return table


def _verdict(result: "SearchResult") -> str:
    best, uniform = result.best, [plan for plan in result.uniform if plan.met]
    if best.provenance.method == "uniform":
        return "A uniform plan won: no learned allocation was better on validation."
    if not uniform:
        return "No uniform baseline within the budget has been trained."
    gain = (best.accuracy.validation or 0.0) - (uniform[0].accuracy.validation or 0.0)
    if gain == 0:
        return "As accurate on validation as the best uniform plan, and no dearer."
    return f"{100 * gain:.2f} points above the best uniform plan on validation."
