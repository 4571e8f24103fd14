"""What a run tells while it goes on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitsearch.runs.pareto import score_column
from bitsearch.score import ACCURACY, Score

if TYPE_CHECKING:
    from bitsearch.layers import Converted
    from bitsearch.train.epoch_record import EpochRecord


def logged(record: "EpochRecord", score: Score) -> dict[str, Any]:
    """A record as it stands in the log, by the names of its score."""
    fields = dict(vars(record))
    value = fields.pop("validation_score")
    names = list(vars(record))
    return {score_column(score, "validation") if n == "validation_score" else n: fields.get(n, value) for n in names}


class Progress:
    """Told by the run, in this order; this one tells nobody, the command line's draws bars."""

    score: Score = ACCURACY
    """What networks are judged by; the run sets it first."""

    def converted(self, rows: "Sequence[Converted]") -> None:
        """What becomes of the network's layers and neurons."""

    def started(self, folder: Path, trials: int, done: int) -> None:
        """The run in ``folder`` starts, or goes on with ``done`` of ``trials`` trials finished."""

    def trial(self, label: str, epochs: int) -> None:
        """A trial, or the full-precision training, starts; it is called as everywhere, ``trial 4, adaptive``."""

    def epoch(self, record: "EpochRecord") -> None:
        """An epoch of it has ended."""

    def step(self, text: str) -> None:
        """A step of a trial that is calibrated has ended; there are as many as it was said to have epochs."""

    def trial_done(self, label: str, score: float, cost: float | None) -> None:
        """It has ended with this validation score and cost of the front's axis."""

    def note(self, text: str) -> None:
        """Something out of the ordinary has happened."""
