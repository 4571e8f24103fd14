r"""Accuracy of every method against the best of the whole uniform grid, at several budgets.

    python -m benchmarks.evidence.accuracy --space digits --out reports/evidence/accuracy-digits
    python -m benchmarks.evidence.accuracy --space digits_events --seeds 2 --out reports/evidence/accuracy-digits_events
    python -m benchmarks.evidence.accuracy --space cifar10_folder --set data_options.root=ROOT \
        --set training.full_precision_epochs=8 --set training.epochs=4 --seeds 1 --trials 2 --compile --out DIR

All runs of a seed start from the same float network. A method has so many trials at every budget, the first with its
own settings, the others with settings that the outer loop's sampler chooses; ``ramp`` runs at the tightest budget and
passes the others on its way. Of the uniform grid every plan is trained to which nothing can be added within a budget.
What stands for a method at a budget is the plan that is best on validation among all of its plans that meet the budget;
the test accuracy shown is that one's.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import get_args

import pandas as pd
import torch
from matplotlib.axes import Axes

from benchmarks.evidence import figures
from benchmarks.evidence.fronts import spread
from benchmarks.evidence.outer import attempts
from benchmarks.evidence.runs import Ledger, Row, Stage, progress
from benchmarks.provenance import machine, made_by
from bitsearch.allocation.solvers.uniform_grid import uniform_plans
from bitsearch.cost import Budget
from bitsearch.errors import InputError
from bitsearch.files import write_whole
from bitsearch.quant.compilation import compiled_quantizers
from bitsearch.space import MethodName, SearchSpace

FULL_PRECISION = "full_precision"
KEYS = ("seed", "method", "budget", "attempt")
WHOLE_GRID = 10_000
LOST = 0.01
"""A budget counts as lossy where the best uniform plan loses so much to full precision."""


def parse(stage: Stage, request: str) -> Budget:
    """A budget such as ``4x``, of the space's own metric."""
    space, model = stage.space, stage.task.model
    budget = Budget.parse(request, space.metric, model, space.baseline)
    budget.check_feasible(model, stage.task.rules)
    return budget


def measure(
    stage: Stage,
    requests: Sequence[str],
    methods: Sequence[str],
    trials: int,
    ledger: Ledger,
    refused: dict[tuple[str, str], str],
) -> Iterator[str]:
    """Run what is missing, most important first; yields what is done. What a method refuses is noted."""
    budgets = {request: parse(stage, request) for request in requests}
    tightest = min(budgets, key=lambda request: budgets[request].limit)
    key: Row = {"seed": stage.seed, "method": FULL_PRECISION, "budget": "any", "attempt": 0}
    if key not in ledger:
        ledger.add(key, [stage.float_row()])
    for attempt in range(trials):
        # What all others are compared with comes first.
        for method in sorted(methods, key=lambda name: name != "uniform"):
            for request in [tightest] if method == "ramp" else requests:
                if method == "uniform":
                    if attempt == 0:
                        _uniform(stage, request, budgets[request], ledger)
                        yield f"uniform grid at {request}"
                    continue
                key = {"seed": stage.seed, "method": method, "budget": request}
                settings = {"method": method, "ramp.steps": len(requests)}
                own = attempts(
                    stage, key, lambda _, budget=budgets[request]: [budget], ledger, searched=True, settings=settings
                )
                try:
                    next(islice(own, attempt, None))
                except InputError as error:
                    refused[method, request] = str(error)
                yield f"{method} at {request}, trial {attempt + 1}"


def _uniform(stage: Stage, request: str, budget: Budget, ledger: Ledger) -> None:
    """Every plan of the grid to which nothing can be added within the budget."""
    task = stage.task
    for number, bits in enumerate(
        uniform_plans(
            task.model,
            task.rules,
            [budget],
            WHOLE_GRID,
            weight_tolerance=task.space.allocation.weight_tolerance,
        )
    ):
        key = {"seed": stage.seed, "method": "uniform", "budget": request, "attempt": number}
        if key not in ledger:
            plan = task.rules.nearest(task.model, bits, granularity="layer")
            ledger.add(key, [{"limit": budget.limit} | stage.fixed(plan)])


def best_rows(table: pd.DataFrame, limits: dict[str, float], metric: str) -> pd.DataFrame:
    """One row a seed, budget and method: the method's plan that is best on validation within the budget."""
    found = []
    plans = table[table["method"] != FULL_PRECISION]
    for (seed, method), own in plans.groupby(["seed", "method"], sort=False):
        for request, limit in limits.items():
            inside = own[own[metric] <= limit].sort_values(metric, kind="stable")
            if len(inside):
                best = inside.loc[inside["validation"].idxmax()]
                spent = own[own["budget"] == request]["cpu_seconds"].sum()
                found.append(best.to_dict() | {"seed": seed, "method": method, "at": request, "spent": spent})
    return pd.DataFrame(found)


def summary(best: pd.DataFrame, full: pd.Series, requests: Sequence[str], methods: Sequence[str]) -> str:
    """Markdown: test accuracy, difference from the best uniform plan, and share of its loss that is won back."""
    rows = []
    for request in requests:
        here = best[best["at"] == request].set_index(["method", "seed"])["test"]
        if "uniform" not in here.index.get_level_values(0):
            continue
        uniform = here.loc["uniform"]
        lost = full[uniform.index] - uniform
        for method in methods:
            if method not in here.index.get_level_values(0):
                continue
            own = here.loc[method]
            better = own - uniform
            won = "—"
            if method != "uniform" and lost.mean() >= LOST:
                won = f"{100 * better.mean() / lost.mean():.0f} %"
            rows.append(
                [
                    request,
                    method,
                    spread(own, 100),
                    spread(full[own.index] - own, 100),
                    "" if method == "uniform" else spread(better, 100),
                    won,
                    spread(best[(best["at"] == request) & (best["method"] == method)]["spent"], 1, 0),
                ]
            )
    heads = [
        "budget",
        "method",
        "test %",
        "below full precision",
        "above best uniform",
        "of uniform's loss won back",
        "CPU seconds",
    ]
    return figures.table(heads, rows)


def report(table: pd.DataFrame, limits: dict[str, float], methods: Sequence[str], space: SearchSpace, out: Path) -> str:
    """Write the figure; the text."""
    metric = space.metric
    full = table[table["method"] == FULL_PRECISION].set_index("seed")["test"]
    best = best_rows(table, limits, metric)
    training = space.training

    def paint(axes: Axes) -> None:
        for number, method in enumerate(methods):
            own = best[best["method"] == method].groupby("at")["test"].mean()
            known = [request for request in limits if request in own.index]
            if known:
                axes.plot(
                    [limits[request] for request in known],
                    [100 * own[request] for request in known],
                    label=method.replace("_", " "),
                    markersize=4,
                    **figures.look(number),
                )
        axes.axhline(100 * full.mean(), color="#808892", linewidth=0.6, linestyle="--")
        axes.set_xscale("log", base=2)

    figures.draw(out / "accuracy.svg", (f"{metric}, limit", "Test accuracy, mean over seeds (%)"), paint)
    return (
        f"# Accuracy at several budgets: `{space.name}`\n\n"
        f"{full.size} seeds; {training.full_precision_epochs} epochs in full precision, then {training.epochs} for "
        f"every plan. Full precision: {spread(full, 100)} % on the test split. Mean ± standard deviation over seeds. "
        "The best plan on validation stands for each method; uniform: of the whole (w, s, T) grid within the budget. "
        f"*Won back*: only where uniform loses {100 * LOST:g} points or more. Machine: {machine()}.\n\n"
        + summary(best, full, list(limits), methods)
        + f"\n![Accuracy at the budgets](accuracy.svg)\n\nEvery run: `runs.csv`. Made by {made_by()}.\n"
    )


def main() -> None:
    """Measure what is missing and write the report, also when time runs out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="digits")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--budgets", default="4x,8x,16x,32x")
    parser.add_argument("--methods", default=",".join(get_args(MethodName)))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no run starts later")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="compiled quantizers: for networks that are worth it")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with compiled_quantizers() if arguments.compile else nullcontext():
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """What the arguments ask for."""
    space = SearchSpace.load(arguments.space).override(arguments.set)
    requests, methods = arguments.budgets.split(","), arguments.methods.split(",")
    ledger = Ledger(arguments.out / "runs.csv", KEYS)
    deadline = time.monotonic() + 60 * arguments.minutes
    limits: dict[str, float] = {}
    refused: dict[tuple[str, str], str] = {}
    for seed in range(arguments.seeds):
        if time.monotonic() > deadline:
            break
        stage = Stage(space, seed, arguments.out / "float")
        limits = {request: parse(stage, request).limit for request in requests}
        for done in measure(stage, requests, methods, arguments.trials, ledger, refused):
            progress(f"seed {seed}: {done}")
            if time.monotonic() > deadline:
                break
    text = report(ledger.table, limits, methods, space, arguments.out)
    text += "".join(f"\nRefused: {reason}.\n" for reason in refused.values())
    write_whole(arguments.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
