"""The progress of a command in the terminal: bars, the current front, and the conversion of the network."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.console import Console, ConsoleRenderable, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column, Table
from rich.text import Text

from bitsearch.pareto import ParetoFront
from bitsearch.runs.progress import Progress

if TYPE_CHECKING:
    from bitsearch.layers import Converted
    from bitsearch.train.epoch_record import EpochRecord

WIDE_COLUMNS = 120
"""Width of a terminal, in characters, from which all columns of the bars fit."""
FRONT_ROWS = 8
"""Number of the front's most accurate plans in the table; a terminal has few lines."""


class Bars(Progress):
    """A run's progress on ``console``; with ``epochs``, every epoch gets a permanent line."""

    def __init__(self, console: Console, *, epochs: bool = False) -> None:
        self._every_epoch = epochs
        is_wide = console.width >= WIDE_COLUMNS
        # Where there is little room, bars give way to the numbers.
        self._bars = RichProgress(
            TextColumn("{task.description:<28}" if is_wide else "{task.description:<20}", markup=False),
            *([BarColumn()] if is_wide else []),
            MofNCompleteColumn(),
            *([TimeElapsedColumn()] if is_wide else []),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        )
        self._front: ParetoFront[str] = ParetoFront()
        self._metric = ""
        self._live = Live(console=console, get_renderable=self._renderable, transient=True)
        self._console = console
        self.folder: Path | None = None
        """The run folder, once the run has started."""
        self._trials = self._bars.add_task("trials", total=None, note="", visible=False)
        self._epochs = self._bars.add_task("epochs", total=None, note="", visible=False)

    def __enter__(self) -> "Bars":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def converted(self, rows: "Sequence[Converted]") -> None:
        """Print the conversion of the network as a permanent table."""
        print_conversion(rows, self._console)

    def started(self, folder: Path, trials: int, done: int) -> None:
        """Show the bar of the trials, and the front of the finished ones."""
        from bitsearch.runs.folder import RunFolder
        from bitsearch.runs.pareto import validation_rank
        from bitsearch.runs.plan_names import full_name

        run = RunFolder(folder)
        self.folder = folder
        if run.settings_file.is_file():
            self._metric = run.settings.metric
        self._bars.update(self._trials, total=trials, completed=done, visible=True)
        if done:
            for plan in run.plans():
                self._front.add(plan.costs[self._metric], validation_rank(plan), full_name(plan))
            self._console.print(f"Going on after {done} finished trials.")

    def trial(self, label: str, epochs: int) -> None:
        """Start the bar of the epochs."""
        self._bars.reset(self._epochs, total=epochs, visible=True, description=label, note="")

    def epoch(self, record: "EpochRecord") -> None:
        """Advance the bar of the epochs, which a trial's phases share."""
        note = f"validation {self._score_text(record.validation_score, 1)}, loss {record.loss:.3f}, {record.phase}"
        if record.micro_batch is not None:
            note += f", {record.micro_batch} samples at once"
        self._bars.update(self._epochs, advance=1, note=note)
        if self._every_epoch:
            self.note(f"  epoch {record.epoch} of {record.epochs}: {note}")

    def step(self, text: str) -> None:
        """Advance the bar that the epochs have elsewhere."""
        self._bars.update(self._epochs, advance=1, note=text)
        if self._every_epoch:
            self.note(f"  {text}")

    def note(self, text: str) -> None:
        """Print a permanent line."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def trial_done(self, label: str, score: float, cost: float | None) -> None:
        """Print a permanent line for the trial, and add its plan to the front."""
        cost_text = "" if cost is None else f"   {self._cost(cost)}"
        self._console.print(f"{label:<28} validation {self._score_text(score, 2):>6}{cost_text}", highlight=False)
        if cost is not None:
            self._bars.advance(self._trials)
            self._front.add(cost, self.score.rank(score), label)

    def _score_text(self, value: float, digits: int) -> str:
        return f"{value:.{digits}%}" if self.score.share else f"{value:.4g} {self.score.unit}".rstrip()

    def _cost(self, cost: float) -> str:
        from bitsearch import text as formats

        return formats.cost(self._metric, cost, 4)

    def _renderable(self) -> ConsoleRenderable:
        return Group(self._front_table(), self._bars) if self._front.points else Group(self._bars)

    def _front_table(self) -> Table:
        table = Table(title="The front so far", title_justify="left", box=None, padding=(0, 1))
        table.add_column("plan")
        table.add_column("validation", justify="right")
        table.add_column("cost", justify="right")
        table.add_column()
        points = self._front.points[-FRONT_ROWS:]
        max_cost = max(cost for cost, _, _ in points) or 1.0
        for cost, rank, label in points:
            bar = Bar(max_cost, 0, cost, width=24, color="green")
            table.add_row(Text(label), self._score_text(self.score.rank(rank), 2), self._cost(cost), bar)
        return table


@contextmanager
def counting(console: Console, label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on ``console`` while something is counted inside; what is yielded takes (done, total)."""
    columns = (TextColumn("{task.description}", markup=False), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def print_conversion(rows: "Iterable[Converted]", console: Console) -> None:
    """Print a row for all modules of one type with one conversion, and a row with the reason for every module left."""
    screen = Table(title="Conversion", title_justify="left")
    for column in ("module", "type", "became"):
        screen.add_column(column)
    sorted_rows = sorted(rows, key=lambda row: (row.became == "left", row.became, row.kind))
    for (became, kind), group in groupby(sorted_rows, key=lambda row: (row.became, row.kind)):
        members = list(group)
        if became == "left":
            for row in members:
                screen.add_row(Text(row.name or "(the network)"), kind, Text(f"left as it is: {row.why}"))
        else:
            names = members[0].name if len(members) == 1 else f"{members[0].name} … {members[-1].name} ({len(members)})"
            screen.add_row(Text(names), kind, became)
    console.print(screen)
