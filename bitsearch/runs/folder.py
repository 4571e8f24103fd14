"""The run folder: everything a search wrote, enough to resume, report or export it elsewhere."""

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from bitsearch.cost import Budget
from bitsearch.cost.declared import declare_metrics, find_metric
from bitsearch.errors import InputError, StorageError, redact
from bitsearch.files import DRAFT_PREFIX, csv_text, read_bytes, read_text, refuse_links, write_whole
from bitsearch.plan import DROP, SCORE_DROP, BitPlan, BudgetOutcome
from bitsearch.runs.pareto import best_plan, pareto_front, to_dataframe
from bitsearch.runs.run_settings import RunSettings
from bitsearch.text import cost, lost_number, points
from bitsearch.train.checkpoint import Checkpoint
from bitsearch.validation import from_toml, to_toml


class RunFolder:
    """Paths and contents of ``reports/<run>/``.

    >>> folder = bitsearch.RunFolder.open("run")
    >>> folder.settings.metric, folder.chosen() in folder.plans()
    ('bit_budget', True)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._plans_by_file: dict[Path, tuple[bytes, BitPlan]] = {}
        """Plans that were read, with the hash of their file's text: to read a large plan takes a millisecond."""

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """An existing run; InputError if ``path`` is none, or holds a link."""
        folder = cls(Path(path))
        if not folder.settings_file.is_file():
            raise InputError(
                f"{path} is not a run folder (it has no run.toml); give the folder that `bitsearch run` wrote"
            )
        refuse_links(folder.path)
        return folder

    @classmethod
    def new(cls, reports: Path, space_name: str) -> "RunFolder":
        """The next free ``reports/<space>-<date>-<n>/``, made."""
        for number in range(1, 10_000):
            path = reports / f"{space_name}-{date.today().isoformat()}-{number}"
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise InputError(f"cannot make the run folder {path}: {error.strerror or error}") from error
            return cls(path)
        raise InputError(f"{reports} holds 9,999 runs of {space_name!r} from today; give another folder with --out")

    @property
    def settings_file(self) -> Path:
        """``run.toml``."""
        return self.path / "run.toml"

    @property
    def study_file(self) -> Path:
        """``study.db``, Optuna's storage; a copy, where the study itself is in another one."""
        return self.path / "study.db"

    @property
    def storage_url(self) -> str:
        """URL of :attr:`study_file`."""
        return f"sqlite:///{self.study_file.absolute()}"

    @property
    def chosen_file(self) -> Path:
        """``plan.json``, the chosen plan."""
        return self.path / "plan.json"

    def sweep_file(self, budget: Budget) -> Path:
        """``plan-4x.json``, the plan of one budget of a sweep."""
        return self.path / plan_file_name(budget.requested)

    @property
    def scores_file(self) -> Path:
        """``scores.json``: what every layer's bits are predicted to cost in accuracy, of a run that was calibrated."""
        return self.path / "scores.json"

    @property
    def test_file(self) -> Path:
        """``test.safetensors``: what the measured networks got right of the test split, or their scores."""
        return self.path / "test.safetensors"

    @property
    def validation_file(self) -> Path:
        """``validation.safetensors``: likewise, of the validation split; of the chosen plan and cheaper ones."""
        return self.path / "validation.safetensors"

    @property
    def confirmed_validation_file(self) -> Path:
        """``confirmed-validation.safetensors``: likewise, of the finalists that were trained with further seeds."""
        return self.path / "confirmed-validation.safetensors"

    @property
    def confirmed_test_file(self) -> Path:
        """``confirmed-test.safetensors``: the same of the test split."""
        return self.path / "confirmed-test.safetensors"

    @property
    def report_file(self) -> Path:
        """``pareto.html``."""
        return self.path / "pareto.html"

    @property
    def sensitivity_file(self) -> Path:
        """``sensitivity.json``, what was measured of the run's full-precision network, if it was."""
        return self.path / "sensitivity.json"

    @property
    def full_precision_weights(self) -> Path:
        """Weights that every trial starts from."""
        return self.path / "weights" / "full-precision.safetensors"

    def plan_file(self, trial: int) -> Path:
        """``plans/trial-NNNN.json``."""
        return self.path / "plans" / f"trial-{trial:04d}.json"

    def weights_file(self, trial: int) -> Path:
        """``weights/trial-NNNN.safetensors``."""
        return self.path / "weights" / f"trial-{trial:04d}.safetensors"

    def checkpoint_file(self, trial: int | None) -> Path:
        """``checkpoints/trial-NNNN.safetensors`` of a running trial, or that of the full-precision training."""
        name = "full-precision" if trial is None else f"trial-{trial:04d}"
        return self.path / "checkpoints" / f"{name}.safetensors"

    def make(self) -> None:
        """Make the folder and those in it; InputError if it holds a link."""
        refuse_links(self.path)
        try:
            for name in ("plans", "weights", "checkpoints"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write to the run folder {self.path}: {error.strerror or error}") from error

    def clear_drafts(self) -> None:
        """Remove what a killed process was writing; only for the sole owner of the folder."""
        for draft in self.path.rglob(f"{DRAFT_PREFIX}*"):
            draft.unlink(missing_ok=True)

    def forget_checkpoint(self, trial: int | None) -> None:
        """Remove what was kept of a training that has ended."""
        Checkpoint(self.checkpoint_file(trial)).remove()

    def forget_trial(self, trial: int) -> None:
        """Remove the plan and the weights of a trial that has no result."""
        for path in (self.plan_file(trial), self.weights_file(trial)):
            path.unlink(missing_ok=True)

    def write_settings(self, settings: RunSettings) -> None:
        """Write ``run.toml``."""
        write_whole(self.settings_file, to_toml(settings))
        self.__dict__.pop("_settings", None)

    @property
    def settings(self) -> RunSettings:
        """Contents of ``run.toml``; InputError if it is not what a run wrote.

        Units and words of the user's own metrics are this run's until another's settings are read, which may have
        others by the same names; no code of theirs is run for it.
        """
        declare_metrics(self._settings.space.metrics or {})
        return self._settings

    @cached_property
    def _settings(self) -> RunSettings:
        settings = from_toml(RunSettings, read_text(self.settings_file, "run settings"), str(self.settings_file))
        declare_metrics(settings.space.metrics or {})
        for metric in (settings.metric, *settings.limits):
            find_metric(metric)
        return settings

    def write_plan(self, plan: BitPlan) -> None:
        """Write a trial's plan."""
        assert plan.provenance.trial is not None
        plan.save(self.plan_file(plan.provenance.trial))

    def plans(self) -> list[BitPlan]:
        """The plans of all finished trials, in order."""
        files = sorted((self.path / "plans").glob("trial-*.json"))
        # A plan trained on, trial-0004.trained.json, is no trial of the run.
        return [self._load_plan(path) for path in files if path.stem.removeprefix("trial-").isdigit()]

    def _load_plan(self, path: Path) -> BitPlan:
        """A trial's plan; InputError if it lacks a cost that the run is judged by, as one from elsewhere may."""
        text = read_text(path, "plan")
        digest = hashlib.sha256(text.encode()).digest()
        if path not in self._plans_by_file or self._plans_by_file[path][0] != digest:
            self._plans_by_file[path] = digest, BitPlan.from_json(text, str(path))
        plan = self._plans_by_file[path][1]
        if self.settings_file.is_file():
            for metric in (self.settings.metric, *self.settings.limits):
                if metric not in plan.costs:
                    raise InputError(
                        f"{path} has no cost {metric!r}, by which {self.settings_file} judges plans; put the run's own "
                        "file back, or delete it"
                    )
        return plan

    def plan(self, trial: int) -> BitPlan:
        """One trial's plan; InputError if it has none."""
        path = self.plan_file(trial)
        if not path.is_file():
            numbers = ", ".join(str(plan.provenance.trial) for plan in self.plans()) or "none"
            raise InputError(f"trial {trial} of {self.path} has no plan; trials with one: {numbers}")
        return self._load_plan(path)

    def front(self) -> list[BitPlan]:
        """The Pareto front over the run's metric."""
        return pareto_front(self.plans(), self.settings.metric)

    def chosen(self) -> BitPlan:
        """The best plan that meets the budget; InputError if there is none yet."""
        plan = best_plan(self.plans(), self.settings.metric)
        if plan is None:
            raise InputError(self._nothing_met())
        return plan

    def _nothing_met(self) -> str:
        plans = self.plans()
        if not plans:
            count = sum(event.get("event") == "finished" for event in self.log())
            if count:
                return (
                    f"{self.path} has no plans, though {count} trials have finished; put the files back into "
                    f"{self.path / 'plans'}, or search again with another --out"
                )
            return f"no trial in {self.path} has finished yet; run it again to go on"
        # Only a goal, and what depends on how often neurons fire, can be missed; the nearest miss says by how much.
        misses = [max(plan.budget, key=_overrun) for plan in plans]
        nearest, plan = min(zip(misses, plans, strict=True), key=lambda miss: _overrun(miss[0]))
        if nearest.metric in (DROP, SCORE_DROP):
            score = plan.measured.score
            return (
                f"no trial in {self.path} is within {nearest.requested}: the nearest, trial {plan.provenance.trial}, "
                f"loses {points(nearest.achieved, score)} of at most {lost_number(nearest.limit, score)}, at "
                f"{self.settings.metric} {plan.costs[self.settings.metric]:.6g}; allow more, or run more trials"
            )
        return (
            f"no trial in {self.path} meets the budget {nearest.requested}: {nearest.metric} is at most "
            f"{cost(nearest.metric, nearest.limit, 6)}, the nearest plan has "
            f"{cost(nearest.metric, nearest.achieved, 6)}; allow more, or run more trials"
        )

    def write_tables(self) -> None:
        """Write ``trials.csv``."""
        write_whole(self.path / "trials.csv", csv_text(to_dataframe(self.plans())))

    def append_log(self, event: Mapping[str, object]) -> None:
        """Add one event to ``log.jsonl``, with the time; a line cut short by a kill is ended first."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = redact(json.dumps({"time": now, **event}, default=str)).encode() + b"\n"
        path = self.path / "log.jsonl"
        try:
            with path.open("a+b") as file:
                if file.tell() and not _ends_a_line(file):
                    line = b"\n" + line
                file.write(line)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error

    def log(self) -> list[dict[str, Any]]:
        """The events of ``log.jsonl``; a line cut short by a kill, or that is no event, is left out."""
        path = self.path / "log.jsonl"
        if not path.is_file():
            return []
        records = []
        for line in read_bytes(path, "log").split(b"\n"):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                records.append(record)
        return records


def plan_file_name(request: str) -> str:
    """Of the plan of one budget among several: ``plan-4x.json``."""
    return f"plan-{re.sub(r'[^A-Za-z0-9.]+', '-', request)}.json"


def _overrun(outcome: BudgetOutcome) -> tuple[float, float]:
    """How many times its limit a plan takes, and how much: the second counts where the limit is 0."""
    times = outcome.achieved / outcome.limit if outcome.limit > 0 else math.inf if outcome.achieved > 0 else 0.0
    return times, outcome.achieved


def _ends_a_line(file: IO[bytes]) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
