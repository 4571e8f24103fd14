"""What step sizes in powers of two cost in accuracy, beside free ones.

    python -m benchmarks.evidence.step_sizes --out reports/evidence/step_sizes

Every pair of trainings starts from the same float network, sees the same batches and differs in
``allocation.quantizer.step_sizes`` alone: ``adaptive`` with its space's own settings, and the first plan of the uniform
grid. ``--spaces cifar10_folder --set data_options.root=FOLDER`` is the same for ResNet-20. Started again with the same
``--out``, it goes on.
"""

import time
from collections.abc import Iterator

import pandas as pd
import torch

from benchmarks.evidence import command, figures
from benchmarks.evidence.fronts import spread
from benchmarks.evidence.runs import Ledger, Row, Stage, progress
from benchmarks.provenance import machine, made_by
from bitsearch.cost import Budget
from bitsearch.files import write_whole
from bitsearch.space import SearchSpace

KEYS = ("space", "seed", "budget", "method", "step_sizes")
KINDS = ("free", "power_of_two")
METHODS = ("adaptive", "uniform")
SPLITS = ("validation", "test")


def measure(stage: Stage, requests: list[str], ledger: Ledger) -> Iterator[str]:
    """Run what a space and seed lack; yields what is done."""
    space, model = stage.space, stage.task.model
    for request in requests:
        budget = Budget.parse(request, space.metric, model, space.baseline)
        for method in METHODS:
            for kind in KINDS:
                key: Row = dict(zip(KEYS, (space.name, stage.seed, request, method, kind), strict=True))
                if key in ledger:
                    continue
                settings = space.allocation_with({"method": method, "quantizer.step_sizes": kind})
                ledger.add(key, stage.run(settings, [budget]))
                yield f"{method} at {request}, {kind}"


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """One row a pair of trainings that differ in their step sizes alone: points that powers of two add, by split."""
    pairs = table.pivot(index=list(KEYS[:-1]), columns="step_sizes", values=list(SPLITS)).dropna()
    return pd.DataFrame(
        {split: 100 * (pairs[split, "power_of_two"] - pairs[split, "free"]) for split in SPLITS}
    ).reset_index()


def _added(points: pd.Series) -> str:
    error = points.std() / len(points) ** 0.5
    return f"{points.mean():+.2f} ± {error:.2f} ({len(points)})"


def summary(table: pd.DataFrame) -> str:
    """Markdown: free accuracies, and what powers of two add to them."""
    compared, rows = differences(table), []
    for (space, request, method), pairs in compared.groupby(["space", "budget", "method"], sort=False):
        alike = (table["space"] == space) & (table["budget"] == request) & (table["method"] == method)
        free = table[alike & (table["step_sizes"] == "free")]
        rows.append([space, request, method, spread(free["test"], 100), *(_added(pairs[split]) for split in SPLITS)])
    for space, pairs in compared.groupby("space", sort=False):
        rows.append([space, "all", "all", "", *(_added(pairs[split]) for split in SPLITS)])
    return figures.table(["space", "budget", "method", "free, test %", *(f"adds on {split}" for split in SPLITS)], rows)


def main() -> None:
    """Measure what is missing and write the report, also when time runs out."""
    parser = command.parser(__doc__, spaces="digits", budgets="32x,8x", seeds=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ledger = Ledger(arguments.out / "runs.csv", KEYS)
    deadline = time.monotonic() + 60 * arguments.minutes
    for seed in range(arguments.seeds):
        for name in arguments.spaces.split(","):
            if time.monotonic() > deadline:
                break
            stage = Stage(SearchSpace.load(name).override(arguments.set), seed, arguments.out / "float")
            for done in measure(stage, arguments.budgets.split(","), ledger):
                progress(f"seed {seed}: {name}: {done}")
                if time.monotonic() > deadline:
                    break
    text = (
        "# What do step sizes in powers of two cost?\n\n"
        f"Up to {ledger.table['seed'].nunique()} seeds. Test accuracy with free step sizes (mean ± standard deviation "
        "over the seeds), and how many points powers of two add to validation and test accuracy: mean ± standard error "
        "over pairs of trainings that differ in nothing else, with their number. "
        f"Machine: {machine()}.\n\n" + summary(ledger.table) + f"\nEvery run: `runs.csv`. Made by {made_by()}.\n"
    )
    write_whole(arguments.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
