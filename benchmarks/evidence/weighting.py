r"""How a plan's predicted loss should count the regularizer weights: whole studies under each weighting.

    python -m benchmarks.evidence.weighting --set training.epochs=6 --out reports/evidence/weighting

The weightings differ only where the outer loop varies the regularizer weights. Every study has the same first trial,
the same sampler and the same budget. A study's hypervolume is that of its trials' costs, as shares of the limit, and
validation accuracies.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from unittest.mock import patch

import pandas as pd
import torch

from benchmarks.evidence import command, figures
from benchmarks.evidence.accuracy import parse
from benchmarks.evidence.fronts import spread
from benchmarks.evidence.outer import attempts
from benchmarks.evidence.runs import Ledger, Stage, progress
from benchmarks.provenance import machine, made_by
from bitsearch.allocation import loss_model
from bitsearch.allocation.solvers import greedy
from bitsearch.files import write_whole
from bitsearch.pareto import hypervolume
from bitsearch.space import SearchSpace

Weighting = Callable[[Mapping[str, float]], tuple[float, float]]
"""From the regularizer weights: what the loss of weights, and that of spikes, are divided by."""
WEIGHTINGS: dict[str, Weighting] = {
    "w, √(s·T)": lambda prices: (prices["weight"], math.sqrt(prices["spike"] * prices["time"])),
    "w, s": lambda prices: (prices["weight"], prices["spike"]),
    "none": lambda prices: (1.0, 1.0),
}
COLUMNS = {"mean": "trials, mean %", "validation": "best, validation %", "test": "best, test %", "volume": "volume %"}


@contextmanager
def weighted(weighting: Weighting) -> Iterator[None]:
    """Until it ends, predicted losses are weighted so."""
    with patch.object(loss_model, "loss_prices", weighting), patch.object(greedy, "loss_prices", weighting):
        yield


def studies(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row a study: the mean of its trials and the best of them, its hypervolume."""
    rows = []
    for (method, budget, weighting, seed), trials in table.groupby(["method", "budget", "weighting", "seed"]):
        best = trials.sort_values(metric, kind="stable")
        best = best.loc[best["validation"].idxmax()]
        points = zip(trials[metric] / trials["limit"], trials["validation"], strict=True)
        row = {"method": method, "budget": budget, "weighting": weighting, "seed": seed}
        volume = hypervolume(points, (1.0 + 1e-9, 0.0))
        # The first trial has regularizer weights of 1, and is the same under all weightings.
        mean = trials[trials["attempt"] > 0]["validation"].mean()
        rows.append(row | {"mean": mean, "validation": best["validation"], "test": best["test"], "volume": volume})
    return pd.DataFrame(rows)


def report(table: pd.DataFrame, space: SearchSpace, trials: int) -> str:
    """The text."""
    each = studies(table, space.metric)
    first = next(iter(WEIGHTINGS))
    paired = each.set_index(["method", "budget", "seed", "weighting"])[list(COLUMNS)].unstack("weighting")
    rows = []
    for weighting in WEIGHTINGS:
        for (method, budget), group in each[each["weighting"] == weighting].groupby(["method", "budget"], sort=False):
            rows.append([weighting, method, budget, *(spread(group[column], 100) for column in COLUMNS)])
    differences = []
    for weighting in list(WEIGHTINGS)[1:]:
        cells: list[object] = [weighting]
        for column in COLUMNS:
            values = 100 * (paired[column][weighting] - paired[column][first]).dropna()
            cells.append(f"{values.mean():+.2f} ± {values.sem():.2f}")
        differences.append(cells)
    return (
        f"# How the predicted loss counts the regularizer weights: `{space.name}`\n\n"
        f"{each['seed'].nunique()} seeds, studies of {trials} trials with {space.training.epochs} epochs. *w, √(s·T)*: "
        "the weights' loss is divided by their price, that of spikes by the geometric mean of the prices of spike bits "
        "and time steps; *w, s*: by that of spike bits; *none*: prices steer the training alone. *Trials*: all but the "
        "first, whose prices are 1. *Volume*: hypervolume of (cost ÷ limit, validation accuracy). Mean ± standard "
        f"deviation over seeds. Machine: {machine()}.\n\n"
        + figures.table(["weighting", "method", "budget", *COLUMNS.values()], rows)
        + f"\nDifference from *{first}*, study by study, in points ± standard error:\n\n"
        + figures.table(["weighting", *COLUMNS.values()], differences)
        + f"\nEvery run: `runs.csv`. Made by {made_by()}.\n"
    )


def main() -> None:
    """Measure what is missing and write the report, also when time runs out."""
    parser = command.parser(__doc__, space="digits", budgets="16x", seeds=3)
    parser.add_argument("--methods", default="adaptive,sensitivity")
    parser.add_argument("--trials", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = SearchSpace.load(arguments.space).override(arguments.set)
    ledger = Ledger(arguments.out / "runs.csv", ("seed", "method", "budget", "weighting", "attempt"))
    deadline = time.monotonic() + 60 * arguments.minutes
    for seed in range(arguments.seeds):
        stage = Stage(space, seed, arguments.out / "float")
        for method in arguments.methods.split(","):
            for request in arguments.budgets.split(","):
                budget = parse(stage, request)
                for name, weighting in WEIGHTINGS.items():
                    key = {"seed": seed, "method": method, "budget": request, "weighting": name}
                    settings = {"method": method}
                    runs = attempts(stage, key, lambda _, b=budget: [b], ledger, searched=True, settings=settings)
                    for attempt in range(arguments.trials):
                        if time.monotonic() < deadline:
                            with weighted(weighting):
                                next(islice(runs, 1))
                            progress(f"seed {seed}: {method} at {request}, {name}, trial {attempt + 1}")
    text = report(ledger.table, space, arguments.trials)
    write_whole(arguments.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
