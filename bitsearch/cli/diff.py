"""``bitsearch diff``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from bitsearch.cli.plans import PlanArgument, plan_file
from bitsearch.cli.terminal.console import Console
from bitsearch.errors import InputError


def diff(
    first: PlanArgument,
    second: Annotated[
        Path, typer.Argument(metavar="PLAN", callback=plan_file, help="Another one, of the same network.")
    ],
) -> None:
    """Show two plans side by side: scores, costs, and the layers whose bits differ."""
    from bitsearch import text as formats
    from bitsearch.plan import BitPlan

    plans = BitPlan.load(first), BitPlan.load(second)
    if not plans[0].layers.keys() & plans[1].layers.keys():
        raise InputError(
            f"{first} is a plan of {plans[0].network!r} and {second} of {plans[1].network!r}, and no layer of one has "
            "the name of a layer of the other; give two plans of the same network"
        )
    table = Table()
    table.add_column("")
    for path in (first, second):
        table.add_column(Text(str(path)), justify="right", overflow="fold")

    names = dict.fromkeys(plan.measured.score.name for plan in plans)
    for split in ("validation", "test"):
        for name in names:
            texts = [
                formats.measured_text(plan, split) if plan.measured.score.name == name else formats.MISSING
                for plan in plans
            ]
            if set(texts) != {formats.MISSING}:
                table.add_row(Text(f"{split} {name}"), *texts)
    for metric in dict.fromkeys(name for plan in plans for name in plan.costs):
        table.add_row(Text(formats.title(metric)), *(formats.cost(metric, plan.costs.get(metric)) for plan in plans))
    table.add_section()
    alike = 0
    for name in dict.fromkeys(name for plan in plans for name in plan.layers):
        layers = [plan.layers.get(name) for plan in plans]
        if layers[0] == layers[1]:
            alike += 1
            continue
        widths = [formats.MISSING if layer is None else str(layer) for layer in layers]
        # What differs beside the widths, such as the decay, is in the files.
        differs = widths[0] == widths[1]
        table.add_row(Text(name), *(f"{width} (other settings)" if differs else width for width in widths))
    console = Console()
    console.print(table)
    console.print(f"layers with the same bits: {alike}", highlight=False)
    if plans[0].network != plans[1].network:
        networks = " and ".join(repr(plan.network) for plan in plans)
        console.print(Text(f"They are plans of two networks, {networks}: layers are compared by name alone."))
