"""Which sampler finds the front soonest: hypervolume against trials and against seconds.

    python -m benchmarks.evidence.samplers --table reports/evidence/exhaustive/table.csv --out reports/evidence/samplers

Optuna's samplers choose the bits of every layer themselves; a trial's outcome and its CPU seconds are those of the
table of all allocations, the sampler's own seconds are measured. Every sampler is also run with trials stopped early by
a rule of our own, since Optuna's pruners take one objective only: after some epochs, a trial ends if a finished one of
no larger cost was better by a margin at the same epoch.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
import pandas as pd
from matplotlib.axes import Axes
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler

from benchmarks.evidence import figures
from benchmarks.evidence.fronts import Point, spread
from benchmarks.evidence.runs import SMALL, Ledger, Row, complete_seeds, progress
from benchmarks.provenance import machine, made_by
from bitsearch.choices import Choices
from bitsearch.files import write_whole
from bitsearch.pareto import hypervolume
from bitsearch.space import SearchSpace

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: RandomSampler(seed=seed),
    "tpe": lambda seed: TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=5),
    "tpe, univariate": lambda seed: TPESampler(seed=seed),
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=16),
    "nsga3": lambda seed: NSGAIIISampler(seed=seed, population_size=16),
    "gp": lambda seed: GPSampler(seed=seed),
}
"""As :func:`bitsearch.study.sampler.make_sampler` makes them, where it has them."""
LEAST_EPOCHS = 4
MARGIN = 0.05
MARKS = (10, 20, 40)
"""Trials after which the table says how far a sampler has come."""


def hopeless(curve: Sequence[float], cost: float, finished: Sequence[tuple[float, Sequence[float]]]) -> int | None:
    """The epoch (from 1) after which a trial is stopped; None if it never is.

    ``finished`` are (cost, validation accuracy after every epoch) of trials that ran to the end.
    """
    cheaper = [other for price, other in finished if price <= cost]
    for epoch in range(LEAST_EPOCHS, len(curve)):
        if any(other[epoch - 1] > curve[epoch - 1] + MARGIN for other in cheaper):
            return epoch
    return None


def suggested(trial: optuna.Trial, choices: Choices, layers: int) -> str:
    """A plan's text, its bits chosen by the sampler."""
    bits = []
    for layer in range(layers):
        weight, spike = (
            trial.suggest_categorical(f"{kind}{layer}", span.values)
            for kind, span in (("weight", choices.weight_bits), ("spike", choices.spike_bits))
        )
        bits.append(f"{weight}/{spike}")
    return " ".join(bits)


def simulate(
    table: pd.DataFrame, metric: str, choices: Choices, sampler: BaseSampler, trials: int, *, pruned: bool
) -> list[Row]:
    """One row a trial: seconds so far and the share of the exact front's hypervolume that finished trials reach."""
    rows = table.set_index("plan")
    reference = (float(table[metric].max()) * 1.01, float(table["validation"].min()))
    exact = hypervolume(zip(table[metric], table["validation"], strict=True), reference)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    found: list[Row] = []
    points: list[Point] = []
    finished: list[tuple[float, list[float]]] = []
    seconds = own = 0.0
    layers = len(str(table["plan"].iloc[0]).split())

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        nonlocal seconds, own, started
        plan = rows.loc[suggested(trial, choices, layers)]
        own += time.process_time() - started
        curve = [float(value) for value in plan["curve"].split()]
        cost = float(plan[metric])
        stopped = hopeless(curve, cost, finished) if pruned else None
        if stopped is not None:
            seconds += plan["cpu_seconds"] * stopped / len(curve)
            raise optuna.TrialPruned
        seconds += plan["cpu_seconds"]
        finished.append((cost, curve))
        points.append((cost, float(plan["validation"])))
        return points[-1][1], cost

    for number in range(1, trials + 1):
        started = time.process_time()
        study.optimize(objective, n_trials=1)
        share = hypervolume(points, reference) / exact
        found.append({"trial": number, "seconds": seconds + own, "sampler_seconds": own, "share": share})
    return found


def report(found: pd.DataFrame, space: SearchSpace, epochs: int, out: Path) -> str:
    """Write figures; the text."""
    rows = []
    names = list(dict.fromkeys(found["sampler"]))
    # The trial whose seconds a plain random search of so many trials would have taken.
    base = found[(found["sampler"] == "random") & ~found["pruned"]]
    for name in names:
        for pruned in (False, True):
            own = found[(found["sampler"] == name) & (found["pruned"] == pruned)]
            if own.empty:
                continue
            at = [spread(own[own["trial"] == mark]["share"], 100, 1) for mark in MARKS]
            timed = []
            for mark in MARKS:
                until = base[base["trial"] == mark].groupby("seed")["seconds"].mean()
                inside = own[own["seconds"] <= own["seed"].map(until)]
                last = inside.groupby(["seed", "repeat"])["share"].last()
                timed.append(spread(last, 100, 1))
            each = (own["sampler_seconds"] / own["trial"])[own["trial"] == own["trial"].max()]
            rows.append([name, "yes" if pruned else "", *at, *timed, spread(each, 1000, 1)])

    def curves(x: str) -> Callable[[Axes], None]:
        def paint(axes: Axes) -> None:
            for number, name in enumerate(names):
                for pruned in (False, True):
                    own = found[(found["sampler"] == name) & (found["pruned"] == pruned)]
                    mean = own.groupby("trial")[["seconds", "share"]].mean().reset_index()
                    line = figures.look(number) | {"linestyle": "--" if pruned else "-"}
                    label = None if pruned else name
                    axes.plot(mean[x], 100 * mean["share"], label=label, markevery=10, markersize=3, **line)

        return paint

    label = "Hypervolume, % of the exact front's"
    figures.draw(out / "trials.svg", ("Trials (dashed: with early stopping)", label), curves("trial"), width=6)
    figures.draw(out / "seconds.svg", ("CPU seconds (dashed: with early stopping)", label), curves("seconds"), width=6)
    return (
        "# Which sampler finds the front soonest?\n\n"
        f"Space `{space.name}`; the sampler chooses the bits of every layer, outcomes are those of the table of all "
        f"allocations ({found['seed'].nunique()} seeds, {epochs} epochs each); {found['repeat'].nunique()} repeats at "
        "most. Share of the exact front's hypervolume in % (reference: the dearest plan and the worst accuracy), mean "
        "± standard deviation: after so many trials, and after the CPU seconds in which a random search makes so many. "
        f"*Early stop*: after {LEAST_EPOCHS} epochs or more, a trial ends where a finished one of no larger cost was "
        f"better by {100 * MARGIN:g} points at the same epoch. Machine: {machine()}.\n\n"
        + figures.table(
            [
                "sampler",
                "early stop",
                *(f"{mark} trials" for mark in MARKS),
                *(f"seconds of {mark}" for mark in MARKS),
                "sampler, ms a trial",
            ],
            rows,
        )
        + "\n![Against trials](trials.svg)\n\n![Against seconds](seconds.svg)\n\n"
        f"Every trial: `trials.csv`. Made by {made_by()}.\n"
    )


def main() -> None:
    """Simulate what is missing and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="all allocations, as exhaustive.py writes them")
    parser.add_argument("--space", default=str(SMALL))
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5, help="sampler seeds for every seed of the table")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = SearchSpace.load(arguments.space)
    table = Ledger(arguments.table, ("seed", "plan")).table
    table = complete_seeds(table, table["plan"].nunique())
    ledger = Ledger(arguments.out / "trials.csv", ("sampler", "pruned", "seed", "repeat"))
    for seed, own in table.groupby("seed"):
        for repeat in range(arguments.repeats):
            for name, make in SAMPLERS.items():
                for pruned in (False, True):
                    key = {"sampler": name, "pruned": pruned, "seed": int(seed), "repeat": repeat}
                    if key not in ledger:
                        sampler = make(1000 * int(seed) + repeat)
                        trials = arguments.trials
                        ledger.add(key, simulate(own, space.metric, space.choices, sampler, trials, pruned=pruned))
            progress(f"seed {seed}: repeat {repeat + 1} of {arguments.repeats}")
    text = report(ledger.table, space, int(table["epochs"].max()), arguments.out)
    write_whole(arguments.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
