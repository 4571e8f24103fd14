"""Tables for the terminal."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bitsearch.report import format as shown_as

if TYPE_CHECKING:
    from bitsearch.plan import BitPlan
    from bitsearch.search.run import SearchResult

SHOWN_COSTS = {"bit_budget": "bit budget", "s_ace": "S-ACE", "weight_memory": "memory"}
SHOWN_BASELINES = 8


def print_result(result: "SearchResult", page: Path, console: Console) -> None:
    """The chosen plan beside the uniform baselines and full precision, its layers, and where everything is."""
    best, settings = result.best, result.folder.settings
    metric = settings.metric
    shown = dict(SHOWN_COSTS) | ({} if metric in SHOWN_COSTS else {metric: metric})
    title = f"{settings.space.name} at {settings.budget} ({metric} ≤ {settings.limit:.6g})"
    table = Table(title=title, title_justify="left")
    table.add_column("plan", no_wrap=True)
    for column in ("validation", "test", *shown.values()):
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
    outcome = best.budget[0]
    console.print(
        f"Budget {outcome.requested}: {outcome.metric} {outcome.achieved:.6g} of at most {outcome.limit:.6g}. "
        + _verdict(result),
        highlight=False,
    )
    for what, path in (("plan", result.folder.chosen_file), ("report", page), ("run", result.folder.path)):
        console.print(f"{what:<7}{path}", highlight=False, soft_wrap=True)


def describe(plan: "BitPlan") -> str:
    """``uniform 1/3/1``, or ``adaptive 4``, with its trial."""
    if plan.provenance.method != "uniform":
        return f"{plan.provenance.method} {plan.provenance.trial}"
    layer = list(plan.layers.values())[-1]
    return f"uniform {layer.weight_bits}/{layer.spike_bits[0]}/{layer.time_steps}"


def _layers(plan: "BitPlan") -> Table:
    table = Table(title="The chosen plan", title_justify="left")
    for column in ("layer", "weight bits", "spike bits per step", "time steps"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for name, layer in plan.layers.items():
        spikes = " ".join(str(bits) for bits in layer.spike_bits)
        table.add_row(Text(name), str(layer.weight_bits), spikes, str(layer.time_steps))
    return table


def _verdict(result: "SearchResult") -> str:
    best, uniform = result.best, result.uniform
    if best.provenance.method == "uniform":
        return "A uniform plan won: no learned allocation was better on validation."
    if not uniform:
        return "No uniform baseline has been trained yet."
    gain = (best.accuracy.validation or 0.0) - (uniform[0].accuracy.validation or 0.0)
    if gain == 0:
        return "As accurate on validation as the best uniform plan, and no dearer."
    return f"{100 * gain:.2f} points above the best uniform plan on validation."
