"""Progress bars: one for the trials, one for the epochs of the current trial."""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from bitsearch.allocate.trainer import EpochRecord


class Bars:
    """Draws a run's progress on ``console``; a :class:`bitsearch.search.progress.Progress`.

    With ``epochs``, every one gets a line that stays.
    """

    def __init__(self, console: Console, *, epochs: bool = False) -> None:
        self._every_epoch = epochs
        self._bars = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self._console = console
        self.folder: Path | None = None
        """The run folder, once the run has started."""
        self._trials = self._bars.add_task("trials", total=None, note="", visible=False)
        self._epochs = self._bars.add_task("epochs", total=None, note="", visible=False)

    def __enter__(self) -> "Bars":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def started(self, folder: Path, trials: int, done: int) -> None:
        """Show the bar of the trials."""
        self.folder = folder
        self._bars.update(self._trials, total=trials, completed=done, visible=True)
        if done:
            self._console.print(f"Going on after {done} finished trials.")

    def trial(self, label: str, epochs: int) -> None:
        """Start the bar of the epochs."""
        self._bars.reset(self._epochs, total=epochs, visible=True, description=label, note="")

    def epoch(self, record: "EpochRecord") -> None:
        """Advance it; a trial's phases share one bar."""
        note = f"{record.phase}, loss {record.loss:.3f}, validation {record.validation_accuracy:.1%}"
        self._bars.update(self._epochs, advance=1, note=note)
        if self._every_epoch:
            self.note(f"  epoch {record.epoch} of {record.epochs}: {note}")

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def trial_done(self, label: str, accuracy: float, cost: float | None) -> None:
        """Print a line that stays."""
        spent = "" if cost is None else f"   cost {cost:.6g}"
        self._console.print(f"{label:<18} validation {accuracy:6.2%}{spent}", highlight=False)
        if cost is not None:
            self._bars.advance(self._trials)
