r"""What predicts the accuracy after training: the rank correlation of every signal with that of trained plans.

    python -m benchmarks.evidence.predictors --table reports/evidence/exhaustive/table.csv --out DIR
    python -m benchmarks.evidence.predictors --space cifar10_folder --set data_options.root=ROOT \
        --table reports/evidence/accuracy-cifar10/runs.csv --groups 3 --out DIR

Plans and their accuracies come from a table of trained plans, which may be the runs of accuracy.py, or so many random
ones are trained. A signal predicts a plan's loss as the sum over its layers of what their weights' and what their
spikes' bits cost; training wins back more of the first, so that each signal is also tried with the weights' part at a
quarter, and without it.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.evidence import figures
from benchmarks.evidence.fronts import at_equal_cost, rank_correlation, spread
from benchmarks.evidence.loss_signals import immediate_loss, predicted, quantized_at, signals, training_images
from benchmarks.evidence.runs import SMALL, Ledger, Stage, complete_seeds, progress
from benchmarks.provenance import machine, made_by
from bitsearch.allocation.solvers.random_plan import random_plan
from bitsearch.cost import Budget
from bitsearch.files import write_whole
from bitsearch.plan import UniformBits
from bitsearch.space import SearchSpace

WEIGHT_PARTS = (1.0, 0.25, 0.0)


def correlations(
    stage: Stage, table: pd.DataFrame, truth: pd.Series, at: UniformBits, groups: int
) -> list[dict[str, object]]:
    """One row a signal and weight part: rank correlations with the accuracy of trained plans."""
    own = table[table["seed"] == stage.seed].drop_duplicates("plan").set_index("plan")
    plans = {text: stage.plan(text) for text in own.index}
    real, cost = truth[own.index], own[stage.space.metric]
    found: list[dict[str, object]] = []

    def judge(name: str, part: float | None, values: pd.Series, seconds: float) -> None:
        found.append(
            {
                "seed": stage.seed,
                "signal": name,
                "weights at": part,
                "all": rank_correlation(-values, real),
                "at equal cost": at_equal_cost(-values, real, cost, groups),
                "seconds": seconds,
            }
        )

    searched = stage.task.rules.searched
    for name, (model, seconds) in signals(stage, at).items():
        for part in WEIGHT_PARTS:
            started = time.process_time()
            losses = pd.Series({text: predicted(model, plan, searched, part) for text, plan in plans.items()})
            # Loss models measure a width when it is asked for first.
            seconds += time.process_time() - started if part == WEIGHT_PARTS[0] else 0.0
            judge(name, part, losses, seconds)
    images, labels = training_images(stage)
    largest = stage.space.choices
    dearest = UniformBits(
        weight_bits=largest.weight_bits.high, spike_bits=largest.spike_bits.high, time_steps=largest.time_steps.high
    )
    network = quantized_at(stage, dearest, trained=False)
    started = time.process_time()
    losses = pd.Series({text: immediate_loss(stage, network, plan, images, labels) for text, plan in plans.items()})
    judge("loss of the whole plan before training", None, losses, time.process_time() - started)
    curves = own["curve"].str.split().map(lambda values: [float(value) for value in values])
    each = own["cpu_seconds"] / own["epochs"]
    for epochs in (1, 2, 4):
        if epochs < curves.map(len).min():
            name = f"accuracy after {epochs} of {curves.map(len).max()} epochs"
            judge(name, None, -curves.map(lambda values, n=epochs: values[n - 1]), float((epochs * each).sum()))
    judge(
        "the same plan's accuracy after all epochs, this seed",
        None,
        -own["validation"],
        float(own["cpu_seconds"].sum()),
    )
    judge("cost alone", None, -cost, 0.0)
    return found


def train_random(stage: Stage, count: int, table: Ledger) -> None:
    """Random plans at limits spread over the axis of the cost."""
    task, metric = stage.task, stage.space.metric
    model, rules = task.model, task.rules
    low = model.cost(metric, rules.smallest(model))
    high = model.cost(metric, rules.nearest(model, stage.space.allocation.start, granularity="layer"))
    for draw in range(count):
        key = {"seed": stage.seed, "draw": draw}
        if key in table:
            continue
        limit = low * (high / low) ** ((draw + 1) / count)
        generator = np.random.default_rng((stage.seed, draw))
        plan = random_plan(rules.smallest(model), model, rules, [Budget(metric, f"{limit:.4g}", limit)], generator)
        table.add(key, [stage.fixed(plan)])
        progress(f"seed {stage.seed}: random plan {draw + 1} of {count}")


def report(found: pd.DataFrame, space: SearchSpace, plans: int, source: str, groups: int, out: Path) -> str:
    """Write the figure; the text."""
    seeds = found["seed"].nunique()
    rows = []
    mean = found.groupby(["signal", "weights at"], sort=False, dropna=False)
    for (name, part), group in mean:
        shown = "" if pd.isna(part) else f"{part:g}"
        rows.append(
            [name, shown, *(spread(group[column]) for column in ("all", "at equal cost")), spread(group["seconds"])]
        )
    best = (
        found.assign(part=found["weights at"].fillna(1.0))
        .groupby("signal", sort=False)["at equal cost"]
        .max()
        .sort_values()
    )

    def paint(axes) -> None:  # type: ignore[no-untyped-def]
        axes.barh(list(best.index), best.to_numpy(), color="#0072B2")
        axes.tick_params(axis="y", labelsize=6)

    figures.draw(out / "predictors.svg", ("Best rank correlation at nearly equal cost", ""), paint, width=6.5)
    return (
        "# What predicts the accuracy after training?\n\n"
        f"Space `{space.name}`, {plans} plans ({source}), {seeds} seeds. Spearman's rank correlation of each signal "
        "with the plans' validation accuracy after training (mean over the seeds), mean ± standard deviation over the "
        f"seeds that the signal was measured for: over all plans, and within {groups} groups of nearly equal cost, "
        "which is what decides at a budget. *Weights at*: how much of the weights' part is counted. Seconds: CPU, to "
        f"score all plans; short trainings are the first epochs of the long one. Machine: {machine()}.\n\n"
        + figures.table(["signal", "weights at", "all plans", "at equal cost", "seconds"], rows)
        + f"\n![Best of every signal](predictors.svg)\n\nEvery seed: `signals.csv`. Made by {made_by()}.\n"
    )


def main() -> None:
    """Measure every seed and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default=str(SMALL))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=3, help="without --table")
    parser.add_argument("--table", type=Path, help="trained plans, as exhaustive.py or accuracy.py writes them")
    parser.add_argument("--plans", type=int, default=30, help="without --table: train so many random ones")
    parser.add_argument("--groups", type=int, default=6, help="of nearly equal cost")
    parser.add_argument("--at", default="1/2", help="bits of the uniform plan whose trained network is measured")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = SearchSpace.load(arguments.space).override(arguments.set)
    keys = ("seed", "plan") if arguments.table else ("seed", "draw")
    table = Ledger(arguments.table or arguments.out / "plans.csv", keys)
    weight_bits, spike_bits = map(int, arguments.at.split("/"))
    time_steps = space.choices.time_steps.nearest(2)
    at = UniformBits(weight_bits=weight_bits, spike_bits=spike_bits, time_steps=time_steps)
    measured = Ledger(arguments.out / "signals.csv", ("seed",))
    if arguments.table:
        trained = table.table.dropna(subset="plan")
        seeds_of = trained.groupby("plan")["seed"].nunique()
        if "method" in trained:
            # Methods choose other plans with every seed.
            trained = trained[trained["plan"].isin(seeds_of[seeds_of == trained["seed"].nunique()].index)]
        known = complete_seeds(trained, trained["plan"].nunique())
        kept, seeds = arguments.table.parent / "float", sorted(known["seed"].unique())
    else:
        kept, seeds = arguments.out / "float", list(range(arguments.seeds))
    stages = [Stage(space, int(seed), kept) for seed in seeds]
    if not arguments.table:
        for stage in stages:
            train_random(stage, arguments.plans, table)
        known = table.table
    truth = known.groupby("plan")["validation"].mean()
    for stage in stages:
        if {"seed": stage.seed} not in measured:
            measured.add({"seed": stage.seed}, correlations(stage, known, truth, at, arguments.groups))
            progress(f"seed {stage.seed}: measured")
    source = f"those of `{arguments.table}`" if arguments.table else "random"
    text = report(measured.table, space, len(truth), source, arguments.groups, arguments.out)
    write_whole(arguments.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
