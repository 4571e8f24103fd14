"""What a default run's short trials along the front are worth: its plan at the budget, and the front beside it.

    python -m benchmarks.evidence.whole_front --out reports/evidence/whole_front
    python -m benchmarks.evidence.whole_front --space digits_events --seeds 3 --only "half along the front" \
        --out reports/evidence/whole_front-events

For every seed, ``bitsearch run --budget 4x`` as it is, and with all trials at the budget (``search.front_share=0``).
Accuracies are those on validation. A front has a point for each accuracy at most: *levels* are those from the cheapest
plan's to the best one's, a sample apart. *Rise* is how many times what the cheapest plan costs buys a plan within one
standard error of the best: beyond it a front goes on by chance. *By loss* is what the front would be if plans of equal
accuracy were told apart by their loss on validation. *Over budgets* is the mean accuracy of the best plan
within a budget, over all budgets from the cheapest plan to the baseline on a logarithmic scale; that of guessing where
no plan fits. Started again with the same ``--out``, it goes on; a run that was cut off is begun anew, so that its
seconds, of the processor, are those of a whole one.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.evidence import figures
from benchmarks.evidence.fronts import spread
from benchmarks.evidence.runs import Ledger, Row, progress
from benchmarks.provenance import machine, made_by
from bitsearch.data import batches
from bitsearch.pareto import ParetoFront
from bitsearch.runs.pareto import validation_score
from bitsearch.space import SearchSpace
from bitsearch.study.result import SearchResult
from bitsearch.study.run import search
from bitsearch.train.predict import predict
from bitsearch.train.task import Task, load_task

SETTINGS = {"all at the budget": ["search.front_share=0"], "half along the front": []}
COLUMNS = {
    "points": "points",
    "levels": "levels",
    "factor": "ratio of costs",
    "rise": "of it, accuracy rises",
    "points_by_loss": "points by loss",
    "factor_by_loss": "ratio by loss",
    "plans": "plans",
    "seconds": "seconds",
}
"""Of the table, with their heads."""


def over_budgets(costs: Sequence[float], scores: Sequence[float], low: float, high: float, guess: float) -> float:
    """The mean over the logarithm of a budget, from ``low`` to ``high``, of the best score within it.

    Args:
        costs: of a front, cheapest first.
        scores: of its plans.
        low: the smallest budget.
        high: the largest.
        guess: the score where no plan fits.
    """
    ends = [low, *(min(max(cost, low), high) for cost in costs), high]
    widths = [math.log(after / before) for before, after in pairwise(ends)]
    return sum(width * score for width, score in zip(widths, [guess, *scores], strict=True)) / math.log(high / low)


def rise(costs: Sequence[float], scores: Sequence[float], samples: int) -> float:
    """The cost of a front's cheapest plan within one standard error of the best accuracy, over the cheapest cost.

    Args:
        costs: of a front, cheapest first.
        scores: accuracies of its plans.
        samples: on which they were measured; √(p·(1 - p)/N) is the error.
    """
    best = scores[-1]
    least = best - math.sqrt(best * (1 - best) / samples)
    return next(cost for cost, score in zip(costs, scores, strict=True) if score >= least) / costs[0]


def front_by_loss(plans: Sequence[tuple[float, float, float]]) -> list[float]:
    """The costs of a front on which the lower loss is the better of two equal accuracies, cheapest first.

    Args:
        plans: (cost, accuracy, loss).
    """
    ranks = {key: rank for rank, key in enumerate(sorted({(accuracy, -loss) for _, accuracy, loss in plans}))}
    front: ParetoFront[None] = ParetoFront()
    for cost, accuracy, loss in plans:
        front.add(cost, ranks[accuracy, -loss], None)
    return [cost for cost, _, _ in front.points]


@torch.no_grad()
def validation_loss(network: nn.Module, task: Task) -> float:
    """The mean cross-entropy."""
    samples = task.splits.validation
    network.eval()
    losses = [
        cross_entropy(predict(network, inputs), labels, reduction="sum")
        for inputs, labels in batches(samples, task.space.training.at_once)
    ]
    return float(sum(losses)) / len(samples)


def measured(result: SearchResult) -> Row:
    """What a finished run's plans are worth."""
    settings = result.folder.settings
    plans, front = result.folder.plans(), result.folder.front()
    costs = [plan.costs[settings.metric] for plan in front]
    scores = [validation_score(plan) for plan in front]
    task = load_task(settings.space, seed=settings.seed, device="cpu")
    samples = len(task.splits.validation)
    low = task.model.cost(settings.metric, task.rules.smallest(task.model))
    high = settings.baseline_costs[settings.metric]
    losses = [validation_loss(result.network(plan.provenance.trial), task) for plan in plans]
    points = [(plan.costs[settings.metric], validation_score(plan)) for plan in plans]
    by_loss = front_by_loss([(*point, loss) for point, loss in zip(points, losses, strict=True)])
    return {
        "validation": 100 * validation_score(result.best),
        "over_budgets": 100 * over_budgets(costs, scores, low, high, 1 / task.splits.classes),
        "points": len(front),
        "levels": round((scores[-1] - scores[0]) * samples) + 1,
        "factor": costs[-1] / costs[0],
        "rise": rise(costs, scores, samples),
        "points_by_loss": len(by_loss),
        "factor_by_loss": by_loss[-1] / by_loss[0],
        "plans": len(plans),
        "front": " ".join(f"{cost:.4g}:{100 * score:.2f}" for cost, score in zip(costs, scores, strict=True)),
    }


def run(space: SearchSpace, budget: str, seed: int) -> Row:
    """One whole run, as the command line makes it."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        result = search(space, budget, seed=seed, out=Path(folder) / "run", device="cpu")
        seconds = time.process_time() - started
        return {"seconds": round(seconds, 1)} | measured(result)


def cell(values: pd.Series) -> str:
    """``mean ± standard deviation``, and of how many seeds where not of all."""
    known = int(values.notna().sum())
    return spread(values, digits=1) + ("" if known in (0, len(values)) else f" (of {known})")


def main() -> None:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="digits")
    parser.add_argument("--budget", default="4x")
    parser.add_argument("--only", choices=SETTINGS, help="one of the two kinds of runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="settings of the space")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    ledger = Ledger(arguments.out / "runs.csv", ("trials", "seed"))
    for seed in range(arguments.seeds):
        for name, settings in SETTINGS.items():
            key = {"trials": name, "seed": seed}
            if key in ledger or arguments.only not in (None, name):
                continue
            space = SearchSpace.load(arguments.space).override([*arguments.overrides, *settings])
            ledger.add(key, [run(space, arguments.budget, seed)])
            progress(str(ledger.rows[-1]))
    rows = []
    for name, group in ledger.table.groupby("trials", sort=False):
        cells = [spread(group["validation"]), spread(group["over_budgets"])]
        cells += [cell(group[column]) for column in COLUMNS]
        rows.append([name, len(group), *cells])
    heads = ["trials", "seeds", "validation at the budget, %", "over budgets, %", *COLUMNS.values()]
    text = (
        "# A whole front in the time of one budget\n\n"
        f"`bitsearch run --space {arguments.space} --budget {arguments.budget}`, mean ± standard deviation over\n"
        "seeds: the chosen plan's accuracy; the mean accuracy of the best plan within a budget, over all budgets from\n"
        "the cheapest plan to the baseline (on a logarithmic scale; guessing where no plan fits); how many points the\n"
        "front has; how many levels of accuracy there are between its ends, one sample apart, each of which a front\n"
        "has once at most; the dearest point's cost over the cheapest one's; and the cost of the cheapest point\n"
        "within one standard error of the best, over the cheapest one's: what is dearer is better by chance, as\n"
        "far as the validation split can tell. *By loss*: points and ratio of a front on which plans of equal\n"
        f"accuracy are told apart by their loss on validation. Seconds are the processor's. Machine: {machine()}.\n\n"
        f"{figures.table(heads, rows)}\n\n"
        f"Made by {made_by()}.\n"
    )
    (arguments.out / "README.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
