"""What an experiment tracker is told: every trial is a run, every epoch a step."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitsearch.errors import printable
from bitsearch.files import write_whole
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.progress import Progress
from bitsearch.runs.trackers import TRACKERS
from bitsearch.score import Score

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger

    from bitsearch.layers import Converted
    from bitsearch.train.epoch_record import EpochRecord

RESULT = "result"
"""The run that has the chosen plan and the page."""


@contextmanager
def tracked(name: str | None, folder: RunFolder, progress: Progress) -> Iterator[Progress]:
    """What a run tells its progress inside; a tracker as well, if one is named."""
    if name is None:
        yield progress
        return
    tracking = Tracking(name, folder, progress)
    try:
        yield tracking
    finally:
        tracking.close()


class Tracking(Progress):
    """Tells a tracker what it is told itself, and passes it on: every trial is a run, every epoch a step.

    A run that is gone on with goes on in the tracker: keys and steps are kept in ``tracking.json``. A tracker that
    fails is told nothing more, and the search goes on.

    Args:
        name: of the tracker, one that :func:`bitsearch.runs.trackers.check_tracker` lets pass.
        folder: of the run.
        progress: told as well.
    """

    def __init__(self, name: str, folder: RunFolder, progress: Progress) -> None:
        self._tracker, self._folder, self._progress = TRACKERS[name], folder, progress
        self._name, self._fails = name, False
        self._file = folder.path / "tracking.json"
        self._runs: dict[str, dict[str, Any]] = {}
        with suppress(OSError, ValueError):
            self._runs = json.loads(self._file.read_text(encoding="utf-8"))
        self._logger: Logger | None = None
        self._run: dict[str, Any] = {}

    @property
    def score(self) -> Score:
        """What networks are judged by."""
        return self._progress.score

    @score.setter
    def score(self, score: Score) -> None:
        self._progress.score = score

    def converted(self, rows: "Sequence[Converted]") -> None:
        """Nothing that a tracker has a place for."""
        self._progress.converted(rows)

    def started(self, folder: Path, trials: int, done: int) -> None:
        """Likewise."""
        self._progress.started(folder, trials, done)

    def note(self, text: str) -> None:
        """Likewise."""
        self._progress.note(text)

    def trial(self, label: str, epochs: int) -> None:
        """A run begins."""
        self._progress.trial(label, epochs)
        self._do(lambda: self._open(label))

    def epoch(self, record: "EpochRecord") -> None:
        """A step of it."""
        self._progress.epoch(record)
        measures = {"loss": record.loss, f"validation {self.score.name}": record.validation_score, **record.measures}
        self._do(lambda: self._log(measures))

    def trial_done(self, label: str, score: float, cost: float | None) -> None:
        """The run ends with what was measured."""
        self._progress.trial_done(label, score, cost)
        costs = {} if cost is None else {f"measured {self._folder.settings.metric}": cost}
        self._do(lambda: self._log({f"measured {self.score.name}": score, **costs}, step=self._run["step"]))
        self.close()

    def attach(self, *files: Path) -> None:
        """Give files of the run folder to the run ``result``."""
        self._do(lambda: self._open(RESULT))
        for file in files:
            self._do(partial(self._tracker.attach, self._logger, file))
        self.close()

    def close(self) -> None:
        """End the tracker's run, if one is open."""
        if self._logger is not None:
            self._do(lambda: self._tracker.close(self._logger))
            self._logger = None

    def _open(self, label: str) -> None:
        self.close()
        kept = self._runs.get(f"{self._name}: {label}")
        self._logger, key = self._tracker.open(self._folder.path, label, None if kept is None else kept["key"])
        self._run = kept or {"key": key, "step": 0}
        if kept is None:
            self._runs[f"{self._name}: {label}"] = self._run
            self._logger.log_hyperparams(self._parameters())
            self._keep()

    def _log(self, measures: dict[str, float], step: int | None = None) -> None:
        assert self._logger is not None
        if step is None:
            step = self._run["step"] = self._run["step"] + 1
        self._logger.log_metrics(measures, step=step)
        self._keep()

    def _keep(self) -> None:
        write_whole(self._file, json.dumps(self._runs, indent=1))

    def _parameters(self) -> dict[str, Any]:
        settings = self._folder.settings
        return {
            "space": settings.space.name,
            "network": settings.space.network,
            "data": settings.space.data,
            "budget": settings.request,
            "seed": settings.seed,
            **{name: str(value) for name, value in settings.space.training.model_dump(exclude_none=True).items()},
        }

    def _do(self, action: Callable[[], None]) -> None:
        if self._fails:
            return
        try:
            action()
        except Exception as error:
            self._fails = True
            reason = printable(str(error).partition("\n")[0])
            self._progress.note(f"{self._name} fails, and is told nothing more: {type(error).__name__}: {reason}")
