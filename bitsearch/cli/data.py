"""``bitsearch data``: the data sets."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from bitsearch.cli.terminal.completion import complete_data, complete_task
from bitsearch.cli.terminal.console import Console, print_entry, print_line
from bitsearch.errors import InputError, one_line, suggestion
from bitsearch.plug_ins import packages_of, plug_ins

if TYPE_CHECKING:
    from bitsearch.data import DataSet
    from bitsearch.data.check import Findings

app = typer.Typer(help="Data sets: what there is by name, and whether yours are complete.", no_args_is_help=True)


@app.command("list")
def list_data() -> None:
    """List the data sets that have a name, and where to download them."""
    from bitsearch.data import DATA_SETS

    for name, entry in DATA_SETS.items():
        classes = "your classes" if entry.classes is None else f"{entry.classes:,} classes"
        lines = [f"{entry.shape}, {classes}, {_sizes(entry)}", f"  {entry.summary}", f"  {_origin(entry)}"]
        if entry.files:
            lines.append(f"  in the root: {', '.join(entry.files)}")
        print_entry(name, lines)
    for name, points in plug_ins("data set").items():
        print_entry(name, [f"of package {packages_of(points)} ({points[0].value})"])


@app.command()
def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", autocompletion=complete_data, help="Data set, as `bitsearch data list` names it."
        ),
    ],
    root: Annotated[Path | None, typer.Option(help="Folder that holds the data set's files.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set an option, such as size=32.")
    ] = None,
    task: Annotated[
        str, typer.Option(metavar="NAME", autocompletion=complete_task, help="What the data are for, as task.name.")
    ] = "classification",
) -> None:
    """Compare files, counts and shapes with what is published; exit code 2 and a line for everything that is wrong."""
    from bitsearch.data.check import check_data
    from bitsearch.override import override
    from bitsearch.train.tasks import TASKS

    if task not in TASKS:
        raise InputError(f"no task {task!r}; known: {', '.join(TASKS)}{suggestion(task, TASKS)}")
    options = override({} if root is None else {"root": str(root)}, overrides or ())
    findings = check_data(name, options, TASKS[task].targets)
    if findings.sizes:
        Console().print(_table(name, findings))
    for problem in findings.problems:
        print(f"bitsearch: {one_line(problem)}", file=sys.stderr)
    if findings.problems:
        raise typer.Exit(2)
    matches = " and ".join(findings.matches)
    print_line(
        f"{name}: {matches} are as published" if matches else f"{name}: loaded; nothing is published to compare it with"
    )


def _origin(entry: "DataSet") -> str:
    if not entry.files:
        return "nothing to download"
    return f"download {entry.download} from {entry.source}" if entry.source else "your own files"


def _sizes(entry: "DataSet") -> str:
    sizes = {part: count if isinstance(count, int) else sum(count) for part, count in entry.counts.items()}
    if not sizes:
        return "your samples"
    return (
        " and ".join(f"{size:,}" if part == "all" else f"{size:,} {part}" for part, size in sizes.items()) + " samples"
    )


def _table(name: str, findings: "Findings") -> Table:
    from bitsearch.network_inputs import shapes_in

    shape = " and ".join("×".join(map(str, size)) for size in shapes_in(findings.shape))
    table = Table(title=f"{name}, {shape} each", title_justify="left")
    columns = ("classes", "samples a class") if findings.counts else ("targets",)
    for column in ("split", "samples", *columns):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, size in findings.sizes.items():
        if split in findings.counts:
            counts = findings.counts[split]
            cells = [f"{int((counts > 0).sum()):,}", _range_text(int(counts.min()), int(counts.max()))]
        else:
            cells = [_range_text(*findings.ranges[split])]
        table.add_row(split, f"{size:,}", *cells)
    return table


def _range_text(smallest: float, largest: float) -> str:
    return f"{smallest:,.5g}" if smallest == largest else f"{smallest:,.5g} to {largest:,.5g}"
