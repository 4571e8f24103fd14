r"""What distillation from the full-precision network is worth, on validation, at several budgets.

    python -m benchmarks.evidence.distillation --out reports/evidence/distillation

Every pair of trainings starts from the same float network, sees the same batches and differs in the loss of fine-tuning
alone: ``adaptive`` with its space's own settings, and the first plan of the uniform grid. The space's own labels are
what all of them are measured by.

CIFAR-10, from a folder of images, few of them:

    python -m benchmarks.evidence.distillation --spaces cifar10_folder --set data_options.root=DIR \
        --set data_options.limit=250 --set training.epochs=4 --out reports/evidence/distillation-cifar10
"""

import copy
import itertools
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
from bitsearch.training import Distillation

KEYS = ("space", "seed", "budget", "method", "loss")
LABELS = "labels alone"
FEATURES = "w 0.5, τ 4, features"
LOSSES = {
    LABELS: None,
    "w 0.5, τ 4": Distillation(weight=0.5, temperature=4.0),
    "w 0.9, τ 4": Distillation(weight=0.9, temperature=4.0),
    FEATURES: Distillation(weight=0.5, temperature=4.0),
}
"""By name; what is followed of the features is :data:`MIDDLE`."""
MIDDLE = {"digits_cnn": ("norm2",), "digits_events_cnn": ("norm2",), "resnet20": ("blocks.4",)}
"""The module half way through a network, whose output is followed as well (Romero et al. 2015)."""
METHODS = ("adaptive", "uniform")


def settings(loss: str, network: str) -> Distillation | None:
    """What a network is fine-tuned with: of the loss with features, the output of its :data:`MIDDLE` too."""
    return Distillation(weight=0.5, temperature=4.0, features=MIDDLE[network]) if loss == FEATURES else LOSSES[loss]


def measure(stage: Stage, requests: list[str], losses: list[str], ledger: Ledger) -> Iterator[str]:
    """Run what a space and seed lack; yields what is done."""
    space, model = stage.space, stage.task.model
    for request in requests:
        budget = Budget.parse(request, space.metric, model, space.baseline)
        for method in METHODS:
            for loss in losses:
                key: Row = {
                    "space": space.name,
                    "seed": stage.seed,
                    "budget": request,
                    "method": method,
                    "loss": loss,
                }
                if key in ledger:
                    continue
                other = copy.copy(stage)
                other.space = space.with_training({"distillation": settings(loss, space.network)})
                ledger.add(key, other.run(space.allocation_with({"method": method}), [budget]))
                yield f"{method} at {request}, {loss}"


def pairs(table: pd.DataFrame) -> pd.DataFrame:
    """The validation accuracy of every loss beside that of labels alone, a row a training that has both."""
    accuracy = table.pivot_table(index=list(KEYS[:-1]), columns="loss", values="validation", sort=False)
    rows = accuracy.drop(columns=LABELS).stack().rename("distilled").reset_index()
    return rows.join(accuracy[LABELS], on=list(KEYS[:-1])).dropna()


def gain(rows: pd.DataFrame) -> str:
    """Mean difference in points with its standard error, and the number of pairs; a dash where there are none."""
    if rows.empty:
        return "—"
    difference = 100 * (rows["distilled"] - rows[LABELS])
    error = f" ± {difference.sem():.2f}" if len(difference) > 1 else ""
    return f"{difference.mean():+.2f}{error} ({len(difference)})"


def summary(table: pd.DataFrame) -> str:
    """Markdown: a row a space, budget and method; then a row a space, and one for all."""
    compared, rows = pairs(table), []
    losses = [loss for loss in LOSSES if loss in set(compared["loss"])]
    for (space, request, method), group in compared.groupby(["space", "budget", "method"], sort=False):
        labels = group.drop_duplicates("seed")[LABELS]
        rows.append(
            [space, request, method, spread(labels, 100), *(gain(group[group["loss"] == loss]) for loss in losses)]
        )
    for space, group in [*compared.groupby("space", sort=False), ("all", compared)]:
        rows.append([space, "all", "all", "", *(gain(group[group["loss"] == loss]) for loss in losses)])
    return figures.table(["space", "budget", "method", f"{LABELS}, validation %", *losses], rows)


def missing(ledger: Ledger, spaces: list[str], seeds: int, requests: list[str], losses: list[str]) -> str:
    """Of every space and seed, how many runs of those asked for are still to be made."""
    counts: dict[str, int] = {}
    for space, seed, *rest in itertools.product(spaces, range(seeds), requests, METHODS, losses):
        if dict(zip(KEYS, (space, seed, *rest), strict=True)) not in ledger:
            counts[f"{space}, seed {seed}"] = counts.get(f"{space}, seed {seed}", 0) + 1
    listed = "; ".join(f"{name} ({count} runs)" for name, count in counts.items())
    return f"Still missing: {listed}." if counts else "Nothing is missing."


def main() -> None:
    """Measure what is missing and write the report, also when time runs out."""
    parser = command.parser(__doc__, spaces="digits,digits_events", budgets="32x,16x,8x", seeds=3)
    parser.add_argument("--losses", default=";".join(LOSSES), help="; between them")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ledger = Ledger(arguments.out / "runs.csv", KEYS)
    deadline = time.monotonic() + 60 * arguments.minutes
    for seed in range(arguments.seeds):
        for name in arguments.spaces.split(","):
            if time.monotonic() > deadline:
                break
            stage = Stage(SearchSpace.load(name).override(arguments.set), seed, arguments.out / "float")
            for done in measure(stage, arguments.budgets.split(","), arguments.losses.split(";"), ledger):
                progress(f"seed {seed}: {name}: {done}")
                if time.monotonic() > deadline:
                    break
    asked = arguments.budgets.split(","), arguments.losses.split(";")
    left = missing(ledger, arguments.spaces.split(","), arguments.seeds, *asked)
    text = (
        "# Is it worth learning from the full-precision network?\n\n"
        f"Up to {ledger.table['seed'].nunique()} seeds. Validation accuracy of fine-tuning on labels alone (mean ± "
        "standard deviation over the seeds), and how many points distillation adds to it: mean ± standard error over "
        "pairs of trainings that differ in nothing else, with their number. w is the share of the loss that follows "
        "the full-precision network, τ the temperature; with *features*, the output of the module half way through the "
        f"network is followed as well. {left} Machine: {machine()}.\n\n"
        + summary(ledger.table)
        + f"\nEvery run: `runs.csv`. Made by {made_by()}.\n"
    )
    write_whole(arguments.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
