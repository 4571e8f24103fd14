"""Whether a run aims at the cost that it is asked to save: pairs of a budget's metric and the front's axis.

    python -m benchmarks.evidence.objective --out reports/evidence/objective

On digits, ``run --budget A=2x --objective B`` against ``run --budget B=2x``, for every two metrics A and B of a
hardware target. Among the second run's plans that the first one's budget allows, the most accurate is the mark. The
first run should have a plan as accurate, within one standard error of an accuracy on the validation split, that costs
no more in B. What one trial makes of the ratio of the two costs is the least and the most that it would be, had either
run lacked any one of its plans. Started again with the same ``--out``, it goes on.

    python -m benchmarks.evidence.objective --only bit_budget/latency --out reports/evidence/objective-spread

measures that pair alone, or several.
"""

import argparse
import math
import tempfile
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path

from benchmarks.evidence import figures
from benchmarks.evidence.runs import Ledger, Row, progress
from benchmarks.provenance import machine, made_by
from bitsearch.plan import BitPlan
from bitsearch.report.history import sample_counts
from bitsearch.runs.pareto import validation_score
from bitsearch.space import SearchSpace
from bitsearch.study.run import search
from bitsearch.text import title

METRICS = ("bit_budget", "s_ace", "weight_memory", "energy", "latency")
TARGETS = {"generic": METRICS[:4], "power_of_two": METRICS}
"""By target, the metrics that it has."""


def pairs() -> list[tuple[str, str, str]]:
    """(target, metric of the budget, metric of the axis); the target with latency for pairs with latency alone."""
    every = [("generic", *pair) for pair in permutations(TARGETS["generic"], 2)]
    return every + [("power_of_two", *pair) for pair in permutations(METRICS, 2) if "latency" in pair]


def without_one(
    plans: list[BitPlan], marks: list[BitPlan], limit: float, budget: str, axis: str, samples: int
) -> tuple[float, float]:
    """The least and the most that the ratio of :func:`compare` is, had one of the two runs lacked any one of its plans.

    Infinite where no plan is as accurate then; arguments as there.
    """

    def lacking(run: list[BitPlan]) -> Iterator[list[BitPlan]]:
        return ([*run[:index], *run[index + 1 :]] for index in range(len(run)))

    def is_allowed(plan: BitPlan) -> bool:
        return plan.met and plan.costs[budget] <= limit

    cases = [(plans, marks), *((fewer, marks) for fewer in lacking(plans))]
    cases += [(plans, fewer) for fewer in lacking(marks)]
    ratios = [
        compare(*case, limit, budget, axis, samples)["ratio"]
        for case in cases
        if any(plan.met for plan in case[0]) and any(map(is_allowed, case[1]))
    ]
    ratios = [math.inf if math.isnan(ratio) else ratio for ratio in ratios]
    return min(ratios), max(ratios)


def compare(plans: list[BitPlan], marks: list[BitPlan], limit: float, budget: str, axis: str, samples: int) -> Row:
    """The cheapest plan of a run with another budget that is as accurate as the mark, beside the mark.

    Args:
        plans: of the run with a budget on ``budget``.
        marks: of the run with a budget on ``axis``.
        limit: the budget.
        budget: its metric.
        axis: the front's.
        samples: of the validation split.
    """
    allowed = [plan for plan in marks if plan.met and plan.costs[budget] <= limit]
    mark = max(allowed, key=lambda plan: (validation_score(plan), -plan.costs[axis]))
    best = validation_score(mark)
    error = math.sqrt(best * (1 - best) / samples)
    alike = [plan for plan in plans if plan.met and validation_score(plan) >= best - error]
    cheapest = min(alike, key=lambda plan: plan.costs[axis], default=None)
    top = max((plan for plan in plans if plan.met), key=lambda plan: (validation_score(plan), -plan.costs[axis]))
    return {
        "mark": 100 * best,
        "mark_cost": mark.costs[axis],
        "accuracy": math.nan if cheapest is None else 100 * validation_score(cheapest),
        "cost": math.nan if cheapest is None else cheapest.costs[axis],
        "ratio": math.nan if cheapest is None else cheapest.costs[axis] / mark.costs[axis],
        "chosen": 100 * validation_score(top),
        "chosen_cost": top.costs[axis],
    }


class Runs:
    """The plans of a seed's runs, each made once.

    Args:
        settings: of the space.
        trials: that search, of every run.
        seed: of the runs.
    """

    def __init__(self, settings: Sequence[str], trials: int, seed: int) -> None:
        self.settings, self.trials, self.seed = settings, trials, seed
        self.samples = 0
        """Of the validation split, once a run was made."""
        self._made: dict[tuple[str, str, str], tuple[list[BitPlan], float]] = {}

    def __call__(self, target: str, budget: str, axis: str) -> tuple[list[BitPlan], float]:
        """(plans, the budget's limit) of a run at half of the baseline's cost."""
        if (target, budget, axis) not in self._made:
            space = SearchSpace.load("digits").override([*self.settings, f"target={target}"])
            with tempfile.TemporaryDirectory() as folder:
                result = search(
                    space,
                    f"{budget}=2x",
                    objective=axis,
                    trials=self.trials,
                    seed=self.seed,
                    out=Path(folder) / "run",
                    device="cpu",
                )
                self.samples = sample_counts(result.folder.log())["validation"]
                limit = result.folder.settings.limits[budget].limit
                self._made[target, budget, axis] = result.folder.plans(), limit
        return self._made[target, budget, axis]


def main() -> None:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--trials", type=int, default=8)
    names = [f"{budget}/{axis}" for _, budget, axis in pairs()]
    parser.add_argument("--only", action="append", choices=names, metavar="BUDGET/AXIS", help="this pair; repeatable")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    ledger = Ledger(arguments.out / "runs.csv", ("target", "budget", "axis", "seed"))
    settings = [f"training.epochs={arguments.epochs}", f"training.full_precision_epochs={arguments.epochs}"]
    settings += ["search.front_epochs=2", "search.uniform_trials=4"]
    for seed in range(arguments.seeds):
        runs = Runs(settings, arguments.trials, seed)
        for target, budget, axis in pairs():
            key = {"target": target, "budget": budget, "axis": axis, "seed": seed}
            is_asked = not arguments.only or f"{budget}/{axis}" in arguments.only
            if is_asked and key not in ledger:
                plans, limit = runs(target, budget, axis)
                marks, _ = runs(target, axis, axis)
                case = (plans, marks, limit, budget, axis, runs.samples)
                least, most = without_one(*case)
                ledger.add(key, [compare(*case) | {"least": least, "most": most}])
                progress(str(ledger.rows[-1]))
                write(ledger, arguments.out)
    write(ledger, arguments.out)


def write(ledger: Ledger, out: Path) -> None:
    """The page of what has been measured so far."""
    rows = [
        [
            row["target"],
            title(row["budget"]),
            title(row["axis"]),
            row["seed"],
            f"{row['mark']:.2f} at {row['mark_cost']:.4g}",
            f"{row['accuracy']:.2f} at {row['cost']:.4g}",
            f"{row['ratio']:.2f}",
            f"{row['least']:.2f} to {row['most']:.2f}",
            f"{row['chosen']:.2f} at {row['chosen_cost']:.4g}",
        ]
        for row in ledger.rows
    ]
    ratios = ledger.table["ratio"]
    heads = ["target", "budget", "axis", "seed", "mark", "as accurate", "ratio", "by one trial", "chosen"]
    text = (
        "# Does a run aim at the cost it is asked to save?\n\n"
        "`run --budget A=2x --objective B` on digits. *Mark*: the most accurate plan that `run --budget B=2x` finds\n"
        "and that A's budget allows. *As accurate*: the first run's cheapest plan in B that is within one standard\n"
        "error of it. Accuracies on validation in %, costs in B's unit; a ratio of at most 1 is what was asked for.\n"
        "*By one trial*: the least and the most that it would be, had either run lacked any one of its plans.\n"
        f"*Chosen*: the first run's most accurate plan. Machine: {machine()}.\n\n"
        f"{figures.table(heads, rows)}\n\n"
        f"The ratio is at most 1 in {int((ratios <= 1).sum())} of {len(ratios)} rows, and within what one trial makes\n"
        f"of it in {int((ledger.table['least'] <= 1).sum())}.\n\n"
        f"Made by {made_by()}.\n"
    )
    (out / "README.md").write_text(text)


if __name__ == "__main__":
    main()
