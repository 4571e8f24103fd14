"""What every part of the adaptive method is worth: the same budgets with one part off, or in its published form.

    python -m benchmarks.evidence.ablations --out reports/evidence/ablations

Every variant runs once a seed and budget, with the settings of the space but for its own. Budgets are ratios of the
space's own baseline, whatever a variant allows, so that all of one metric meet the same limit.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.axes import Axes

from benchmarks.evidence import command, figures
from benchmarks.evidence.fronts import spread
from benchmarks.evidence.loss_signals import Probed, quantized_at, training_images
from benchmarks.evidence.runs import Ledger, Row, Stage, progress
from benchmarks.provenance import machine, made_by
from bitsearch.allocation.solvers.integer_program import solve
from bitsearch.cost import Budget
from bitsearch.errors import InputError
from bitsearch.files import write_whole
from bitsearch.plan import UniformBits
from bitsearch.space import SearchSpace

PROBED = 128
"""Samples that divergences are measured on."""
SECONDS = 20.0
"""Of the integer program on them."""


@dataclass(frozen=True)
class Variant:
    """What differs from the method as it is."""

    settings: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)
    """The only values allowed of a number, in place of the space's."""
    start: dict[str, int] = field(default_factory=dict)
    metric: str | None = None
    """That the budget limits, at the same ratio; the space's own by default."""
    warm: bool = True
    """Start from the float network's trained weights."""
    probed: bool = False
    """An integer program on probed KL divergences, in place of the method."""


AS_IT_IS = "adaptive, as it is"
VARIANTS = {
    AS_IT_IS: Variant(),
    "straight-through gradient": Variant({"estimator": "straight_through"}),
    "Fisher, integer program": Variant({"method": "sensitivity"}),
    "probed KL, integer program": Variant(probed=True),
    "weights' loss in full": Variant({"weight_tolerance": 1.0}),
    "start far from the budget": Variant({"headroom": 1e6}),
    "half the epochs search": Variant({"search_share": 0.5}),
    "binning's loss in full": Variant({"time_tolerance": 1.0}),
    "no renewal": Variant({"renewal.enabled": False}),
    "T fixed at 1": Variant(choices={"time_steps": [1]}, start={"time_steps": 1}),
    "T fixed at 2": Variant(choices={"time_steps": [2]}, start={"time_steps": 2}),
    "spike bits fixed at 2": Variant(choices={"spike_bits": [2]}, start={"spike_bits": 2}),
    "budget loss: mean bits": Variant({"regularizer": "means"}),
    "budget on S-ACE": Variant(metric="s_ace"),
    "cold start": Variant(warm=False),
}


def space_of(space: SearchSpace, variant: Variant) -> SearchSpace:
    """The space with the variant's choices."""
    content = space.model_dump(mode="json")
    content["choices"] |= variant.choices
    content["allocation"]["start"] |= variant.start
    return SearchSpace.model_validate(content)


def run(base: Stage, variant: Variant, request: str) -> list[Row]:
    """The rows of a variant at a budget; InputError where it cannot be met."""
    space = base.space
    stage = Stage(space_of(space, variant), base.seed, base.kept)
    if not variant.warm:
        stage.network = stage.task.fresh_network()
    model, rules = stage.task.model, stage.task.rules
    budget = Budget.parse(request, variant.metric or space.metric, model, space.baseline)
    budget.check_feasible(model, rules)
    if variant.probed:
        started = time.process_time()
        images = training_images(stage)[0].narrow(stage.task.splits.batch_axis, 0, PROBED)
        fine = UniformBits(weight_bits=8, spike_bits=8, time_steps=space.allocation.start.time_steps)
        loss = Probed.make(quantized_at(stage, fine, trained=False), images, space.allocation.weight_tolerance)
        plan = solve(
            stage.problem(space.allocation).plan(space.allocation.start), model, [budget], rules, loss, seconds=SECONDS
        ).plan
        spent = time.process_time() - started
        row = stage.fixed(plan)
        return [row | {"cpu_seconds": row["cpu_seconds"] + round(spent, 3)}]
    return stage.run(stage.space.allocation_with(variant.settings), [budget])


def report(table: pd.DataFrame, space: SearchSpace, requests: Sequence[str], out: Path) -> str:
    """Write the figure; the text."""
    names = [name for name in VARIANTS if name in set(table["variant"])]
    first = AS_IT_IS
    by = table.set_index(["variant", "budget", "seed"]).sort_index()
    rows, means = [], {}
    for name in names:
        cells: list[object] = [name]
        for request in requests:
            found = by.loc[(name, request)] if (name, request) in by.index else None
            if found is None:
                cells += ["—", "—"]
                continue
            cells += [spread(found["validation"], 100), spread(found["test"], 100)]
        own = by.loc[name][["validation", "test"]].mean(axis=1)
        paired = (own - by.loc[first][["validation", "test"]].mean(axis=1)).dropna()
        means[name] = 100 * float(paired.mean())
        error = f" ± {100 * paired.sem():.2f}" if len(paired) > 1 else ""
        cells += ["" if name == first else f"{means[name]:+.2f}{error}", spread(by.loc[name]["cpu_seconds"], 1, 1)]
        rows.append(cells)
    heads = ["variant", *(f"{request}, {split} %" for request in requests for split in ("validation", "test"))]
    heads += ["difference, points", "CPU seconds"]

    def paint(axes: Axes) -> None:
        shown = names[:0:-1]
        axes.barh(shown, [means[name] for name in shown], color="#0072B2")
        axes.axvline(0, color="#808892", linewidth=0.6)

    figures.draw(out / "ablations.svg", (f"Points of accuracy above “{first}”", ""), paint, width=5.5)
    return (
        f"# What each part of the method is worth: `{space.name}`\n\n"
        f"{table['seed'].nunique()} seeds, {space.training.epochs} epochs. Mean ± standard deviation over the seeds; "
        "*difference*: of the mean of validation and test accuracy from the method as it is, seed by seed and budget "
        f"by budget, ± its standard error. Machine: {machine()}.\n\n"
        + figures.table(heads, rows)
        + f"\n![Differences](ablations.svg)\n\nEvery run: `runs.csv`. Made by {made_by()}.\n"
    )


def main() -> None:
    """Measure what is missing and write the report, also when time runs out."""
    parser = command.parser(__doc__, space="digits", budgets="8x,16x", seeds=3)
    parser.add_argument(
        "--variant",
        action="append",
        choices=VARIANTS,
        metavar="NAME",
        help="one to measure beside the method as it is; all by default",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space, requests = SearchSpace.load(arguments.space).override(arguments.set), arguments.budgets.split(",")
    ledger = Ledger(arguments.out / "runs.csv", ("seed", "variant", "budget"))
    deadline = time.monotonic() + 60 * arguments.minutes
    refused: dict[tuple[str, str], str] = {}
    for seed in range(arguments.seeds):
        base = Stage(space, seed, arguments.out / "float")
        for name in [AS_IT_IS, *arguments.variant] if arguments.variant else VARIANTS:
            for request in requests:
                key = {"seed": seed, "variant": name, "budget": request}
                if key not in ledger and time.monotonic() < deadline:
                    try:
                        ledger.add(key, run(base, VARIANTS[name], request))
                    except InputError as error:
                        refused[name, request] = str(error)
                    progress(f"seed {seed}: {name} at {request}")
    text = report(ledger.table, space, requests, arguments.out)
    text += "".join(f"\n{name} at {request}: {reason}.\n" for (name, request), reason in refused.items())
    write_whole(arguments.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
