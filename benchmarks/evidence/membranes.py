r"""Spiking networks on data with time: what conversion costs, and what gradients through membranes are worth.

    python -m benchmarks.evidence.membranes --space fsdd_mlp --set data_options.root=DIR --out DIR

Full precision is the space's own network, trained by its surrogate gradient. *Converted* is the same network with 8-bit
weights, 1-bit spikes and a time step a frame, with nothing trained after. The same plan, and ``adaptive`` at every
budget, are then trained with gradients that stop at each time step, and with gradients that go back through the
membranes. Choices are made on validation. ``runs.csv`` in ``--out`` has every run; started again, only others are run.
"""

import copy
import time
from typing import get_args

import pandas as pd
import torch

from benchmarks.evidence import command, figures
from benchmarks.evidence.fronts import spread
from benchmarks.evidence.runs import Ledger, Row, Stage, progress
from benchmarks.provenance import machine, made_by
from bitsearch.cost import Budget
from bitsearch.errors import InputError
from bitsearch.files import write_whole
from bitsearch.plan import UniformBits
from bitsearch.space import SearchSpace
from bitsearch.training import Training

KEYS = ("space", "seed", "what", "gradient")
GRADIENTS = get_args(Training.model_fields["membrane_gradient"].annotation)
OWN = "8/1, a step a frame"


def own_bits(stage: Stage) -> UniformBits:
    """8-bit weights, 1-bit spikes, as many time steps as the baseline has."""
    return UniformBits(weight_bits=8, spike_bits=1, time_steps=stage.space.baseline.time_steps)


def converted(stage: Stage) -> Row:
    """Accuracies right after conversion, with steps set by the first training samples."""
    problem = stage.problem(stage.space.allocation)
    network = problem.quantized(problem.plan(own_bits(stage)))
    with torch.no_grad():
        network.eval()(stage.task.examples)
    return stage.accuracies(network)


def measure(stage: Stage, requests: list[str], ledger: Ledger, deadline: float) -> None:
    """Run what a space and seed lack until time runs out."""
    space, model = stage.space, stage.task.model
    name: Row = {"space": space.name, "seed": stage.seed}
    for what, found in (("full precision", stage.float_row), ("converted", lambda: converted(stage))):
        if (key := name | {"what": what, "gradient": "none"}) not in ledger:
            ledger.add(key, [found()])
    for what in [OWN, *requests]:
        for gradient in GRADIENTS:
            key = name | {"what": what, "gradient": gradient}
            if key in ledger or time.monotonic() > deadline:
                continue
            other = copy.copy(stage)
            other.space = space.with_training({"membrane_gradient": gradient})
            if what == OWN:
                rows = [other.fixed(other.problem(space.allocation).plan(own_bits(stage)))]
            else:
                budget = Budget.parse(what, space.metric, model, space.baseline)
                try:
                    budget.check_feasible(model, stage.task.rules)
                except InputError as error:
                    progress(f"{space.name} at {what}: {error}")
                    continue
                rows = other.run(space.allocation_with({"method": "adaptive"}), [budget])
            ledger.add(key, rows)
            progress(f"{space.name}, seed {stage.seed}: {what}, {gradient}")


def summary(table: pd.DataFrame) -> str:
    """Markdown: a row a space and plan; the difference of the gradients is paired by seed."""
    rows = []
    for (space, what), group in table.groupby(["space", "what"], sort=False):
        by = group.set_index(["gradient", "seed"])["validation"]
        gradients = [each for each in ("none", *GRADIENTS) if each in by.index.get_level_values(0)]
        shown = {each: spread(by.loc[each], 100) for each in gradients}
        difference = ""
        if set(GRADIENTS) <= set(gradients):
            paired = 100 * (by.loc["through_time"] - by.loc["cut"]).dropna()
            error = f" ± {paired.sem():.2f}" if len(paired) > 1 else ""
            difference = f"{paired.mean():+.2f}{error}" if len(paired) else ""
        first = shown.get("none", shown.get("cut", "—"))
        rows.append([space, what, first, shown.get("through_time", ""), difference, spread(group["test"], 100)])
    heads = ["space", "network", "validation %, cut", "through time", "difference, points", "test % of all"]
    return figures.table(heads, rows)


def main() -> None:
    """Measure what is missing and write the report, also when time runs out."""
    parser = command.parser(__doc__, budgets="4x,8x", seeds=3)
    parser.add_argument("--space", action="append", required=True, help="may be given several times")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ledger = Ledger(arguments.out / "runs.csv", KEYS)
    deadline = time.monotonic() + 60 * arguments.minutes
    for seed in range(arguments.seeds):
        for name in arguments.space:
            if time.monotonic() < deadline:
                stage = Stage(SearchSpace.load(name).override(arguments.set), seed, arguments.out / "float")
                measure(stage, arguments.budgets.split(","), ledger, deadline)
    text = (
        "# Conversion, and gradients through the membranes\n\n"
        f"Up to {ledger.table['seed'].nunique()} seeds, mean ± standard deviation; the difference is paired by seed, ± "
        "its standard error. Networks that are not trained after conversion have one number. Machine: "
        f"{machine()}.\n\n{summary(ledger.table)}\n\nEvery run: `runs.csv`. Made by {made_by()}.\n"
    )
    write_whole(arguments.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
