"""Where mixed plans win: one network and budget after another, the best mixed plan against the best uniform one.

    python -m benchmarks.evidence.where --out reports/evidence/where

Scenarios differ in what mixing could be worth: layers of equal or of very unequal price, one budget or two at once,
hardware with few widths, spikes of one bit so that only time steps are left to choose, event data, a deep network. In
each, every plan of the uniform (w, s, T) grid is trained to which nothing can be added within the budgets, and
``adaptive`` has a few trials whose settings the outer loop's sampler chooses. The best of either kind on validation
stands for it; the test accuracy shown is that one's.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pandas as pd
import torch

from benchmarks.evidence import command, figures
from benchmarks.evidence.accuracy import WHOLE_GRID
from benchmarks.evidence.accuracy_report import FULL_PRECISION
from benchmarks.evidence.fronts import spread
from benchmarks.evidence.outer import attempts
from benchmarks.evidence.runs import Ledger, Row, Stage, progress
from benchmarks.provenance import machine, made_by
from bitsearch.allocation.solvers.uniform_grid import uniform_plans
from bitsearch.cost import parse_budgets
from bitsearch.files import write_whole
from bitsearch.space import SearchSpace

KEYS = ("scenario", "seed", "method", "attempt")


@dataclass(frozen=True)
class Scenario:
    """A space, what is changed in it, and the budgets."""

    budgets: tuple[str, ...]
    space: str = "digits"
    settings: tuple[str, ...] = ("training.epochs=10",)


DEEP = (
    'network="resnet20"',
    "network_options={width=8}",
    "training.full_precision_epochs=12",
    "training.epochs=6",
)
SCENARIOS = {
    "bit budget 16x": Scenario(("bit_budget=16x",)),
    "bit budget 32x": Scenario(("bit_budget=32x",)),
    "S-ACE 12x, first layer counted": Scenario(("s_ace=12x",)),
    "weight memory 7.5 kB": Scenario(("weight_memory=7.5kB",)),
    "weight memory 7.5 kB and S-ACE 12x": Scenario(("weight_memory=7.5kB", "s_ace=12x")),
    "bit budget 16x, widths 1, 2, 4, 8": Scenario(
        ("bit_budget=16x",), settings=("training.epochs=10", 'target="power_of_two"')
    ),
    "bit budget 32x, 1-bit spikes: T alone": Scenario(
        ("bit_budget=32x",),
        settings=("training.epochs=10", "choices.spike_bits=[1]", "allocation.start.spike_bits=1"),
    ),
    "event data, bit budget 32x": Scenario(("bit_budget=32x",), space="digits_events", settings=()),
    "ResNet-20, bit budget 24x": Scenario(("bit_budget=24x",), settings=DEEP),
    "ResNet-20, weight memory 17 kB": Scenario(("weight_memory=17kB",), settings=DEEP),
}


def measure(name: str, seed: int, trials: int, ledger: Ledger, kept: Path) -> Iterator[str]:
    """Run what a scenario and seed lack; yields what is done."""
    scenario = SCENARIOS[name]
    space = SearchSpace.load(scenario.space).override(scenario.settings)
    # Scenarios of one network share its float weights.
    stage = Stage(space, seed, kept / space.network)
    task = stage.task
    budgets = parse_budgets(scenario.budgets, space.metric, task.model, space.baseline)
    for budget in budgets:
        budget.check_feasible(task.model, task.rules)
    key: Row = {"scenario": name, "seed": seed}
    full = key | {"method": FULL_PRECISION, "attempt": 0}
    if full not in ledger:
        ledger.add(full, [stage.float_row()])
    grid = uniform_plans(
        task.model, task.rules, budgets, WHOLE_GRID, weight_tolerance=task.space.allocation.weight_tolerance
    )
    for number, bits in enumerate(grid):
        own = key | {"method": "uniform", "attempt": number}
        if own not in ledger:
            ledger.add(own, [stage.fixed(task.rules.nearest(task.model, bits, granularity="layer"))])
    yield f"{len(grid)} uniform plans"
    mixed = attempts(
        stage, key | {"method": "adaptive"}, lambda _: budgets, ledger, searched=True, settings={"method": "adaptive"}
    )
    for number, _ in enumerate(islice(mixed, trials), start=1):
        yield f"adaptive, trial {number}"


def summary(table: pd.DataFrame) -> str:
    """Markdown: a row a scenario."""
    rows = []
    for name in SCENARIOS:
        own = table[table["scenario"] == name]
        chosen = own.loc[own.groupby(["seed", "method"])["validation"].idxmax()] if len(own) else own
        test = chosen.pivot_table(index="seed", columns="method", values="test").reindex(
            columns=[FULL_PRECISION, "uniform", "adaptive"]
        )
        test = test.dropna()
        if test.empty:
            continue
        best = chosen[chosen["method"] == "uniform"].sort_values("seed")["plan"].str.split().str[0]
        difference = 100 * (test["adaptive"] - test["uniform"])
        error = f" (± {difference.sem():.2f})" if len(difference) > 1 else ""
        rows.append(
            [
                name,
                ", ".join(sorted(set(best))),
                spread(test[FULL_PRECISION], 100),
                spread(test["uniform"], 100),
                spread(test["adaptive"], 100),
                f"{difference.mean():+.2f}{error}",
                f"{int((own['method'] == 'uniform').sum() / own['seed'].nunique())}",
            ]
        )
    heads = [
        "scenario",
        "best uniform, w/s a step",
        "full precision, test %",
        "uniform, test %",
        "adaptive, test %",
        "adaptive − uniform, points (± standard error)",
        "uniform plans",
    ]
    return figures.table(heads, rows)


def main() -> None:
    """Measure what is missing and write the report, also when time runs out."""
    parser = command.parser(__doc__, overrides=False, seeds=3)
    parser.add_argument("--trials", type=int, default=2, help="of adaptive")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ledger = Ledger(arguments.out / "runs.csv", KEYS)
    deadline = time.monotonic() + 60 * arguments.minutes
    for seed in range(arguments.seeds):
        for name in SCENARIOS:
            if time.monotonic() < deadline:
                for done in measure(name, seed, arguments.trials, ledger, arguments.out / "float"):
                    progress(f"seed {seed}: {name}: {done}")
    text = (
        "# Where mixed plans win\n\n"
        f"Up to {ledger.table['seed'].nunique()} seeds; {arguments.trials} trials of `adaptive` a seed, every uniform "
        "plan to which nothing can be added, as many epochs for each. The best of either kind on validation; mean ± "
        f"standard deviation over the seeds. Machine: {machine()}.\n\n"
        + summary(ledger.table)
        + f"\nEvery run: `runs.csv`. Made by {made_by()}.\n"
    )
    write_whole(arguments.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
