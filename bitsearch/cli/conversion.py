"""How a network was converted, as a table in the terminal."""

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from bitsearch.layers import Converted


def print_conversion(rows: "Iterable[Converted]", console: Console) -> None:
    """A row for every kind of module that became the same; what is left is listed one by one, with the reason."""
    screen = Table(title="Conversion", title_justify="left")
    for column in ("module", "type", "became"):
        screen.add_column(column)
    by_fate = sorted(rows, key=lambda row: (row.became == "left", row.became, row.kind))
    for (became, kind), group in groupby(by_fate, key=lambda row: (row.became, row.kind)):
        found = list(group)
        if became == "left":
            for row in found:
                screen.add_row(Text(row.name or "(the network)"), kind, Text(f"left as it is: {row.why}"))
        else:
            names = found[0].name if len(found) == 1 else f"{found[0].name} … {found[-1].name} ({len(found)})"
            screen.add_row(Text(names), kind, became)
    console.print(screen)
