"""A comparison of methods: the same network, data, epochs and starting weights, over several seeds.

Every seed is a run folder of its own, ``seed-0``, ``seed-1``, …, in which each method gets the same number of trials in
one study; its best plan on validation stands for it. A comparison that was cut short goes on where it stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from bitsearch.allocation_settings import MethodName
from bitsearch.errors import InputError, suggestion
from bitsearch.files import csv_text, refuse_links, write_whole
from bitsearch.launch import launched_world_size
from bitsearch.layer_rules import LayerRule, TieRule
from bitsearch.plan import BitPlan
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.pareto import best_plan, score_column
from bitsearch.runs.progress import Progress
from bitsearch.runs.trackers import check_tracker
from bitsearch.runs.verdict import Verdict
from bitsearch.space import SearchSpace
from bitsearch.study.result import SearchResult
from bitsearch.study.run import search
from bitsearch.study.study import finished_trials

FULL_PRECISION = "full_precision"
"""No method, since it meets no budget: the network that every trial of a seed starts from."""
COMPARABLE = (*get_args(MethodName), FULL_PRECISION)


@dataclass(frozen=True)
class Comparison:
    """What a comparison found; everything is also in its folder."""

    path: Path
    methods: tuple[str, ...]
    runs: tuple[SearchResult, ...]
    """One a seed."""

    @property
    def results(self) -> pd.DataFrame:
        """One row a seed and method: of its best plan on validation the accuracies and the cost; seconds of training.

        Seconds are those of all of the method's trials. A method without a plan within the budget has no row.
        """
        rows: list[dict[str, object]] = []
        validation, test = (score_column(self.runs[0].folder.settings.score, split) for split in ("validation", "test"))
        for run in self.runs:
            settings, plans, seconds = run.folder.settings, run.folder.plans(), training_seconds(run.folder)
            for method in self.methods:
                row: dict[str, object] = {"seed": settings.seed, "method": method}
                if method == FULL_PRECISION:
                    reference = settings.full_precision
                    rows.append(row | {validation: reference.validation, test: reference.test})
                    continue
                method_plans = [plan for plan in plans if plan.provenance.method == method]
                best = best_plan(method_plans, settings.metric)
                if best is not None:
                    measured = {
                        validation: best.measured.validation,
                        test: best.measured.test,
                        settings.metric: best.costs[settings.metric],
                        "seconds": sum(seconds.get(plan.provenance.trial, 0.0) for plan in method_plans),
                        "trial": best.provenance.trial,
                    }
                    rows.append(row | measured)
        metric = self.runs[0].folder.settings.metric
        columns = ["seed", "method", validation, test, metric, "seconds", "trial"]
        return pd.DataFrame(rows, columns=columns)

    @property
    def summary(self) -> pd.DataFrame:
        """One row a method: ``mean``, ``std`` (of a sample) and ``count`` over the seeds of every measure."""
        measures = self.results.drop(columns=["seed", "trial"])
        numbers = measures.set_index("method").astype(float)
        grouped = numbers.groupby(level=0, sort=False).agg(["mean", "std", "count"])
        summary: pd.DataFrame = grouped.reindex(list(self.methods))
        return summary

    @property
    def verdicts(self) -> dict[int, Verdict]:
        """By seed, whether the best method's plan is better than the best of all others, on the same test samples."""
        return {run.folder.settings.seed: run.verdict for run in self.runs}

    def plans(self, method: str) -> list[BitPlan]:
        """All of a method's plans, of every seed."""
        return [plan for run in self.runs for plan in run.folder.plans() if plan.provenance.method == method]


def training_seconds(folder: RunFolder) -> dict[int | None, float]:
    """By trial, how long it trained; plans that a trial left on its way took no time of their own."""
    trials = finished_trials(folder)
    return {trial.number: float(trial.user_attrs["seconds"]) for trial in trials if "seconds" in trial.user_attrs}


def compare(
    space: SearchSpace | str | Path,
    budget: str | Sequence[str],
    methods: Sequence[str],
    *,
    seeds: int = 3,
    trials: int | None = None,
    layers: Sequence[LayerRule | Mapping[str, Any] | str] = (),
    ties: Sequence[TieRule | Mapping[str, Any] | str] = (),
    metric: str | None = None,
    target: str | Path | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    reports: str | Path = "reports",
    logger: str | None = None,
    progress: Progress | None = None,
    command: str | None = None,
) -> Comparison:
    """Compare methods in one search space under a budget.

    Args:
        space: as for :func:`bitsearch.study.run.search`, as are the arguments that are not named here.
        budget: likewise.
        methods: of :data:`COMPARABLE`, at least two.
        seeds: as many, from 0.
        trials: of every method and seed; the space's own number by default.
        layers: as for :func:`bitsearch.study.run.search`, as are ``ties``.
        metric: what a budget limits that names no metric; the space's own by default.
        target: hardware target; the space's own by default.
        device: to train on.
        out: folder; one that holds the same comparison is gone on with. A new one in ``reports`` by default.
        reports: where new folders are made.
        logger: as for :func:`bitsearch.study.run.search`: it is told of every seed's run.
        progress: told how each run goes.
        command: recorded as the command that made the runs.

    Raises:
        InputError: anything the user gave is wrong, or a method cannot meet the budgets.

    >>> found = bitsearch.compare(space, "8x", ["uniform", "random"], seeds=1, trials=1, out="compared")
    >>> list(found.results["method"])
    ['uniform', 'random']
    """
    if logger is not None:
        check_tracker(logger)
    space = space if isinstance(space, SearchSpace) else SearchSpace.load(space)
    space = space.with_layers(layers).with_ties(ties)
    searched = _checked(methods)
    if launched_world_size() > 1:
        raise InputError(
            f"a comparison runs in one process, not {launched_world_size()}; start it without torchrun, "
            "or compare runs of single methods (bitsearch run --method), which train in several"
        )
    if seeds < 1:
        raise InputError(f"seeds is {seeds}; give at least 1")
    space = space.model_copy(update={"search": space.search.with_methods(*searched)})
    path = Path(out) if out is not None else RunFolder.new(Path(reports), f"compare-{space.name}").path
    refuse_links(path)
    runs = tuple(
        search(
            space,
            budget,
            metric=metric,
            target=target,
            trials=trials,
            seed=seed,
            device=device,
            out=path / f"seed-{seed}",
            logger=logger,
            progress=progress,
            command=command,
        )
        for seed in range(seeds)
    )
    comparison = Comparison(path, tuple(methods), runs)
    write_whole(path / "comparison.csv", csv_text(comparison.results))
    return comparison


def _checked(methods: Sequence[str]) -> tuple[str, ...]:
    """The methods without full precision; InputError if one is unknown or given twice, or there are fewer than two."""
    for name in methods:
        if name not in COMPARABLE:
            raise InputError(f"{name!r} is no method; allowed: {', '.join(COMPARABLE)}{suggestion(name, COMPARABLE)}")
    if len(set(methods)) < len(methods) or len(methods) < 2:
        raise InputError(f"methods are {', '.join(methods) or 'none'}; give at least two, each once")
    return tuple(name for name in methods if name != FULL_PRECISION)
