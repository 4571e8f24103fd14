"""What accuracies at several budgets say: a table against the best uniform plan, and a figure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from benchmarks.evidence import figures
from benchmarks.evidence.fronts import spread
from benchmarks.evidence.runs import SHOWN, unpacked
from benchmarks.provenance import machine, made_by
from bitsearch.cost import METRICS
from bitsearch.runs.paired import paired_difference_over_seeds
from bitsearch.space import SearchSpace

FULL_PRECISION = "full_precision"
LOST = 0.01
"""A budget counts as lossy where the best uniform plan loses so much to full precision."""


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


def interval(own: pd.DataFrame, uniform: pd.DataFrame, samples: int) -> str:
    """The 95 % interval of the mean difference on the test samples, in points; a row a seed on both sides."""
    seeds = own.index.intersection(uniform.index)
    pairs = [(own["right"].get(seed), uniform["right"].get(seed)) for seed in seeds] if "right" in own else []
    if not pairs or not all(isinstance(text, str) for pair in pairs for text in pair):
        return "—"
    first, second = (np.stack([unpacked(text, samples) for text in texts]) for texts in zip(*pairs, strict=True))
    found = paired_difference_over_seeds(first, second)
    return f"{100 * found.low:+.2f} to {100 * found.high:+.2f}"


def summary(
    best: pd.DataFrame, full: pd.Series, requests: Sequence[str], methods: Sequence[str], samples: int = 0
) -> str:
    """Markdown: test accuracy, difference from the best uniform plan, and share of its loss that is won back.

    Args:
        best: of :func:`best_rows`.
        full: test accuracy in full precision by seed.
        requests: budgets.
        methods: in the order of the rows.
        samples: of the test split, where rows say which of them are right.
    """
    rows = []
    for request in requests:
        here = best[best["at"] == request]
        by_method = {method: own.set_index("seed") for method, own in here.groupby("method")}
        if "uniform" not in by_method:
            continue
        uniform = by_method["uniform"]
        lost = full[uniform.index] - uniform["test"]
        for method in methods:
            if method not in by_method:
                continue
            own, against = by_method[method], ["", "", "—"]
            if method != "uniform":
                better = own["test"] - uniform["test"]
                won = f"{100 * better.mean() / lost.mean():.0f} %" if lost.mean() >= LOST else "—"
                against = [spread(better, 100), interval(own, uniform, samples), won]
            below = spread(full[own.index] - own["test"], 100)
            rows.append([request, method, spread(own["test"], 100), below, *against, spread(own["spent"], 1, 0)])
    heads = [
        "budget",
        "method",
        "test %",
        "below full precision",
        "above best uniform",
        "95 % interval",
        "of uniform's loss won back",
        "CPU seconds",
    ]
    return figures.table(heads, rows)


def costs(best: pd.DataFrame, requests: Sequence[str], methods: Sequence[str]) -> str:
    """Markdown: what the plans of the table above cost, means over the seeds."""
    shown = [name for name in SHOWN if name in best]
    rows = []
    for request in requests:
        for method in methods:
            own = best[(best["at"] == request) & (best["method"] == method)]
            if len(own):
                rows.append([request, method, *(f"{own[name].mean():.4g}" for name in shown)])
    heads = [f"{METRICS[name].title}{f', {METRICS[name].unit}' if METRICS[name].unit else ''}" for name in shown]
    return figures.table(["budget", "method", *heads], rows)


def report(
    table: pd.DataFrame,
    limits: dict[str, float],
    methods: Sequence[str],
    space: SearchSpace,
    out: Path,
    samples: int,
    finalists: int | None,
) -> str:
    """Write the figure; the text, of a test split of so many samples."""
    metric = space.metric
    full = table[table["method"] == FULL_PRECISION].set_index("seed")["test"]
    best = best_rows(table, limits, metric)
    training = space.training
    of = f", whose plans were all trained for one epoch, and the {finalists} best in full" if finalists else ""

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
        "The best plan on validation stands for each method; uniform: of the whole (w, s, T) grid within the budget"
        f"{of}. *95 % interval* of the difference from the best uniform plan, paired over the test samples (of one "
        "seed: where it leaves out zero, McNemar's exact test rejects; of several, of seeds and samples). "
        f"*Won back*: only where uniform loses {100 * LOST:g} points or more. Machine: {machine()}.\n\n"
        + summary(best, full, list(limits), methods, samples)
        + "\nWhat these plans cost, whichever of it the budget limits:\n\n"
        + costs(best, list(limits), methods)
        + f"\n![Accuracy at the budgets](accuracy.svg)\n\nEvery run: `runs.csv`. Made by {made_by()}.\n"
    )
