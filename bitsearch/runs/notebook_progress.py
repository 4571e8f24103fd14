"""A run's progress in a notebook: one output of the cell, changed in place."""

import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitsearch.runs.progress import Progress
from bitsearch.text import score_text

if TYPE_CHECKING:
    from bitsearch.train.epoch_record import EpochRecord


def progress_of_session() -> Progress:
    """A notebook's progress where the program runs in one; elsewhere a program prints only what it wants to."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if getattr(shell, "kernel", None) is None:
        return Progress()
    from IPython.display import display

    return NotebookProgress(display)


class NotebookProgress(Progress):
    """Bars of trials and epochs, what finished last, and what was out of the ordinary.

    A front end keeps every output that it is sent, and a search has hundreds of epochs: this is one, which is replaced.
    """

    def __init__(self, display: Callable[..., Any]) -> None:
        """``display``: IPython's."""
        self._display = display
        self._handle: Any = None
        self._trials, self._trials_done = 0, 0
        self._label, self._epochs, self._epochs_done = "", 0, 0
        self._epoch_text, self._finished = "", ""
        self._notes: list[str] = []

    def started(self, folder: Path, trials: int, done: int) -> None:
        """Show the bar of the trials."""
        self._trials, self._trials_done = trials, done
        self._show()

    def trial(self, label: str, epochs: int) -> None:
        """Show the bar of the epochs."""
        self._label, self._epochs, self._epochs_done, self._epoch_text = label, epochs, 0, ""
        self._show()

    def epoch(self, record: "EpochRecord") -> None:
        """Advance it."""
        self._epochs_done += 1
        score = score_text(record.validation_score, self.score)
        phase = "" if self._label.endswith(record.phase) else f", {record.phase}"
        self._epoch_text = f", validation {score}, loss {record.loss:.3f}{phase}"
        self._show()

    def trial_done(self, label: str, score: float, cost: float | None) -> None:
        """Advance the bar of the trials; one without a cost, such as full precision, is none of them."""
        self._trials_done += cost is not None
        self._finished = f"{label}: validation {score_text(score, self.score)}"
        self._show()

    def note(self, text: str) -> None:
        """Add a line that stays."""
        self._notes.append(text)
        self._show()

    def _show(self) -> None:
        bars = [("trials", self._trials_done, self._trials, "")] if self._trials else []
        bars += [(self._label, self._epochs_done, self._epochs, self._epoch_text)] if self._epochs else []
        rows = [f"{label}: {done} of {total}{text}" for label, done, total, text in bars]
        last = [f"last finished: {self._finished}"] if self._finished else []
        html = [
            f'<div><progress value="{done}" max="{total}"></progress> {escape(row)}</div>'
            for (_, done, total, _), row in zip(bars, rows, strict=True)
        ]
        html += [f"<div>{escape(line)}</div>" for line in (*last, *self._notes)]
        shown = {"text/html": "".join(html), "text/plain": "\n".join([*rows, *last, *self._notes])}
        if self._handle is None:
            self._handle = self._display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)
