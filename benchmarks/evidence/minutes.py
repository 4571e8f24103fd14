"""What `bitsearch allocate` reaches without training, after one epoch and after the usual training, and what it costs.

    python -m benchmarks.evidence.minutes --out reports/evidence/minutes

All runs of a space and seed start from one float network. At every budget the best plan on validation stands beside the
best uniform one that was treated alike. The price is the processor time of the allocation of all budgets, over that of
an epoch of the float network's training.
"""

import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from benchmarks.evidence import command, figures
from benchmarks.evidence.fronts import spread
from benchmarks.evidence.runs import Ledger, Row, Stage, progress
from benchmarks.provenance import machine, made_by
from bitsearch.files import write_whole
from bitsearch.post_training.run import allocate
from bitsearch.runs.pareto import best_plan
from bitsearch.runs.plan_names import is_uniform
from bitsearch.runs.rebuild import evaluate_plan
from bitsearch.space import SearchSpace
from bitsearch.study.result import SearchResult
from bitsearch.train.loop import train
from bitsearch.train.session import TrainingSession

KEYS = ("space", "seed", "epochs")
KINDS = {False: "searched", True: "uniform"}


def epoch_seconds(stage: Stage) -> float:
    """Processor time of an epoch of the float network's training."""
    session = TrainingSession(stage.task.splits, stage.space.training)
    started = time.process_time()
    train(stage.task.fresh_network(), session, epochs=1, seed=stage.seed, phase="full precision")
    return time.process_time() - started


def rows(result: SearchResult, epochs: int) -> Iterator[Row]:
    """By budget and kind, the best plan on validation, of those that were trained on where any were."""
    settings = result.folder.settings
    stops = settings.sweep or settings.budgets[:1]
    plans = [plan for plan in result.folder.plans() if not epochs or (plan.provenance.trial or 0) >= 2 * len(stops)]
    for stop in stops:
        judged = [plan.model_copy(update={"budget": (stop.outcome(plan.costs[settings.metric]),)}) for plan in plans]
        for uniform, kind in KINDS.items():
            plan = best_plan([plan for plan in judged if is_uniform(plan) == uniform], settings.metric)
            if plan is not None:
                # A run measures on the test split what it shows.
                path = result.folder.plan_file(plan.provenance.trial or 0)
                test = plan.measured.test if plan.measured.test is not None else evaluate_plan(path, split="test")
                scores = {"validation": plan.measured.validation, "test": test}
                yield {"budget": stop.requested, "kind": kind, "cost": plan.costs[settings.metric], **scores}


def measure(stage: Stage, budgets: str, epochs: int) -> list[Row]:
    """One allocation, its plans trained on for so many epochs."""
    runs = Path(tempfile.mkdtemp(prefix="bitsearch-minutes-"))
    space = stage.space.with_weights(stage.kept / f"{stage.space.name}-{stage.seed}.safetensors")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            started = time.process_time()
            result = allocate(space, budgets=budgets, fine_tune=epochs, seed=stage.seed, device="cpu", out=runs / "run")
            seconds = time.process_time() - started
        full = result.folder.settings.full_precision
        price = {"cpu_seconds": round(seconds, 1), "epoch_cpu_seconds": round(epoch_seconds(stage), 2)}
        whole = {"budget": "", "kind": "full precision", "validation": full.validation, "test": full.test, **price}
        return [whole, *rows(result, epochs)]
    finally:
        shutil.rmtree(runs, ignore_errors=True)


def summary(table: pd.DataFrame) -> str:
    """Markdown: a row a space, training and budget, test accuracy of both kinds; then the price."""
    lines = []
    for (space, epochs), group in table.groupby(["space", "epochs"], sort=False):
        full = group[group["kind"] == "full precision"]
        for budget, plans in group[group["kind"] != "full precision"].groupby("budget", sort=False):
            by_kind = {kind: plans[plans["kind"] == kind].set_index("seed")["test"] for kind in KINDS.values()}
            difference = 100 * (by_kind["searched"] - by_kind["uniform"]).dropna()
            trained = "none" if not epochs else "1 epoch" if epochs == 1 else f"{epochs} epochs"
            lines.append(
                [
                    *(space, budget, trained, spread(full["test"], 100)),
                    *(spread(by_kind[kind], 100) for kind in ("uniform", "searched")),
                    f"{difference.mean():+.2f} ({len(difference)})" if len(difference) else "—",
                ]
            )
    heads = ["space", "budget", "training", "full precision", "best uniform", "searched", "difference"]
    text = figures.table(heads, lines)
    prices = table[(table["kind"] == "full precision") & (table["epochs"] == 0)]
    for space, group in prices.groupby("space", sort=False):
        ratio = group["cpu_seconds"] / group["epoch_cpu_seconds"]
        text += f"\n{space}: an allocation of all budgets took the processor time of {spread(ratio, 1, 1)} epochs.\n"
    return text


def main() -> None:
    """Measure what is missing and write the report, also when time runs out."""
    parser = command.parser(__doc__, spaces="digits,digits_events", budgets="4x,8x,16x,32x", seeds=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ledger = Ledger(arguments.out / "runs.csv", KEYS)
    deadline = time.monotonic() + 60 * arguments.minutes
    for name in arguments.spaces.split(","):
        for seed in range(arguments.seeds):
            space = SearchSpace.load(name).override(arguments.set)
            for epochs in (0, 1, space.training.epochs):
                key: Row = {"space": space.name, "seed": seed, "epochs": epochs}
                if key in ledger or time.monotonic() > deadline:
                    continue
                stage = Stage(space, seed, arguments.out / "float")
                ledger.add(key, measure(stage, arguments.budgets, epochs))
                progress(f"{name}, seed {seed}: {epochs} epochs")
    text = (
        "# Plans in minutes: without training, after one epoch, after the usual training\n\n"
        f"Up to {ledger.table['seed'].nunique()} seeds. Test accuracy in % (mean ± standard deviation over the seeds) "
        "of the best plan on validation of `bitsearch allocate` within each budget and of the best uniform one, both "
        "calibrated on the same 256 training samples, without labels, and trained on for as long; their mean "
        f"difference in points, with the number of pairs. Machine: {machine()}.\n\n"
        + summary(ledger.table)
        + f"\nEvery run: `runs.csv`. Made by {made_by()}.\n"
    )
    write_whole(arguments.out / "README.md", text)


if __name__ == "__main__":
    main()
