"""Why `adaptive` ends below `sensitivity` on few epochs: by its plans, or by the epochs left to train them.

    python -m benchmarks.evidence.final_epochs --space cifar10_folder --set data_options.root=DIR \
        --out reports/evidence/final_epochs

Of `training.epochs`, `adaptive` spends `search_share` while bits move, at a constant learning rate, and trains its plan
for the rest; `sensitivity` trains its plan for all of them. From the same float network, with the same batches: both as
they are; the plan of `adaptive` trained as `sensitivity` trains its own; and `adaptive` with as many epochs more as it
searches. Differences are those of pairs: the same seed and budget.
"""

import time

import pandas as pd
import torch

from benchmarks.evidence import command, figures
from benchmarks.evidence.accuracy import parse
from benchmarks.evidence.fronts import spread
from benchmarks.evidence.runs import Ledger, Row, Stage, progress
from benchmarks.provenance import machine, made_by
from bitsearch.cost import Budget
from bitsearch.files import write_whole
from bitsearch.space import SearchSpace

REFERENCE = "sensitivity"
ARMS = {
    "adaptive": "as it is",
    "adaptive, longer": "as many epochs more as it searches, so that its plan is trained for all",
    "adaptive's plan": "the plan of the first row, trained from the float network for all epochs",
    REFERENCE: "as it is",
}


def longer(stage: Stage) -> Stage:
    """The same with as many epochs more as are searched, and no more of them spent on the search."""
    settings = stage.space.training
    searched = max(1, round(settings.epochs * stage.space.allocation.search_share))
    epochs = settings.epochs + searched
    space = stage.space.override([f"training.epochs={epochs}", f"allocation.search_share={searched / epochs}"])
    return Stage(space, stage.seed, stage.kept)


def run(stage: Stage, arm: str, budget: Budget, ledger: Ledger, key: Row) -> list[Row]:
    """The rows of one arm."""
    if arm == "adaptive's plan":
        first = ledger.table
        for column, value in (key | {"arm": "adaptive"}).items():
            first = first[first[column].astype(str) == str(value)]
        return [stage.fixed(stage.plan(str(first.iloc[0]["plan"])))]
    stage = longer(stage) if arm == "adaptive, longer" else stage
    method = "sensitivity" if arm == REFERENCE else "adaptive"
    return stage.run(stage.space.allocation.model_copy(update={"method": method}), [budget])


def summary(table: pd.DataFrame) -> str:
    """Markdown: a row an arm, its accuracies and its paired differences from ``sensitivity``, in points."""
    paired = table.set_index(["seed", "budget", "arm"])[["validation", "test"]].unstack("arm")
    rows = []
    for arm, words in ARMS.items():
        cells: list[object] = [arm, words]
        for split in ("validation", "test"):
            cells.append(spread(table[table["arm"] == arm][split], 100))
            if (split, arm) not in paired:
                cells.append("—")
                continue
            differences = 100 * (paired[split][arm] - paired[split][REFERENCE]).dropna()
            error = f" ± {differences.sem():.2f}" if len(differences) > 1 else ""
            cells.append("" if arm == REFERENCE else f"{differences.mean():+.2f}{error} ({len(differences)})")
        rows.append(cells)
    return figures.table(["", "training", "validation %", "less sensitivity", "test %", "less sensitivity"], rows)


def main() -> None:
    """Measure what is missing and write the report, also when time runs out."""
    parser = command.parser(__doc__, space="digits", budgets="16x,32x", seeds=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = SearchSpace.load(arguments.space).override(arguments.set)
    ledger = Ledger(arguments.out / "runs.csv", ("space", "seed", "budget", "arm"))
    deadline = time.monotonic() + 60 * arguments.minutes
    for seed in range(arguments.seeds):
        stage = Stage(space, seed, arguments.out / "float")
        for request in arguments.budgets.split(","):
            for arm in ARMS:
                key: Row = {"space": space.name, "seed": seed, "budget": request, "arm": arm}
                if key in ledger or time.monotonic() > deadline:
                    continue
                ledger.add(key, run(stage, arm, parse(stage, request), ledger, key))
                progress(f"seed {seed}: {request}, {arm}")
    epochs = space.training.epochs
    searched = max(1, round(epochs * space.allocation.search_share))
    text = (
        f"# What the last epochs are worth: `{space.name}`\n\n"
        f"{ledger.table['seed'].nunique()} seeds, budgets {arguments.budgets}; {epochs} epochs, of which `adaptive` "
        f"searches {searched}. Mean ± standard deviation over all; differences are those of the same seed and budget, "
        f"in points, with their standard error and number. Machine: {machine()}.\n\n"
        + summary(ledger.table)
        + f"\nEvery run: `runs.csv`. Made by {made_by()}.\n"
    )
    write_whole(arguments.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
