"""The truth for a small case: every allocation of three layers trained, and how much of the exact front methods reach.

    python -m benchmarks.evidence.exhaustive --out reports/evidence/exhaustive

Every allocation of ``small.toml`` is trained from the same float network, for every seed. Then each method looks for
the front on its own: it runs at budgets that divide the axis ever more finely, and what its plans dominate is set
against the CPU seconds that it took, as a share of those of all allocations.
"""

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from pathlib import Path

import pandas as pd
import torch
from matplotlib.axes import Axes

from benchmarks.evidence import figures
from benchmarks.evidence.fronts import Point, front, spread, spread_out
from benchmarks.evidence.outer import attempts
from benchmarks.evidence.runs import SMALL, Ledger, Plan, Stage, complete_seeds, progress
from benchmarks.provenance import machine, made_by
from bitsearch.cost import Budget
from bitsearch.files import write_whole
from bitsearch.pareto import hypervolume
from bitsearch.space import SearchSpace

CHANCE = 0.1
SHARE = 0.05
"""Of the compute of all allocations: what a method may use."""
UNTIL = 0.052
"""Methods run until they have used this share."""
AIM = 0.98
RANDOM_ORDERS = 50
CAMPAIGNS: dict[str, tuple[bool, dict[str, object]]] = {
    "adaptive": (False, {"method": "adaptive"}),
    "adaptive, searched": (True, {"method": "adaptive"}),
    "adaptive, weights in full": (False, {"method": "adaptive", "weight_tolerance": 1.0}),
    "ramp": (True, {"method": "ramp", "ramp.steps": 4}),
    "sensitivity": (False, {"method": "sensitivity"}),
    "sensitivity, weights in full": (False, {"method": "sensitivity", "weight_tolerance": 1.0}),
    "refine": (False, {"method": "refine"}),
}
"""By name: whether the outer loop varies the settings after the first attempt, and settings that are fixed."""


def allocations(stage: Stage) -> Iterator[Plan]:
    """Every plan that the rules allow whose spike bits are alike in all time steps."""
    rules = stage.task.rules
    plan = rules.smallest(stage.task.model)
    options = [
        [
            {"weight_bits": w, "spike_bits": (s,) * t, "time_steps": t}
            for w, s, t in product(c.weight_bits.values, c.spike_bits.values, c.time_steps.values)
        ]
        for c in (rules.choices[name] for name in rules.searched)
    ]
    for bits in product(*options):
        chosen = zip(rules.searched, bits, strict=True)
        yield plan | {name: plan[name].model_copy(update=update) for name, update in chosen}


def train_all(stage: Stage, table: Ledger) -> None:
    """One row an allocation."""
    plans = list(allocations(stage))
    for number, plan in enumerate(plans, start=1):
        key = {"seed": stage.seed, "plan": stage.text(plan)}
        if key not in table:
            table.add(key, [stage.fixed(plan)])
            if number % 20 == 0:
                progress(f"seed {stage.seed}: {number} of {len(plans)} allocations")


def budgets_of(stage: Stage, method: str) -> Callable[[int], Sequence[Budget]]:
    """Ever more finely spaced limits, in equal ratios between the cheapest and the dearest plan; a ramp takes all."""
    task, metric = stage.task, stage.space.metric
    model = task.model
    low = model.cost(metric, task.rules.smallest(model))
    high = max(model.cost(metric, plan) for plan in allocations(stage))

    def budgets(attempt: int) -> Sequence[Budget]:
        share = 0.0 if method == "ramp" else next(islice(spread_out(), attempt, None))
        limit = low ** (1 - share) * high**share
        return [Budget(metric, f"{limit:.4g}", limit * (1 + 1e-9))]

    return budgets


def run_methods(stage: Stage, all_seconds: float, ledger: Ledger) -> None:
    """Every campaign until it has used its share."""
    for name, (searched, settings) in CAMPAIGNS.items():
        spent, key = 0.0, {"seed": stage.seed, "campaign": name}
        budgets = budgets_of(stage, str(settings["method"]))
        for rows in attempts(stage, key, budgets, ledger, searched=searched, settings=settings):
            spent += sum(row["cpu_seconds"] for row in rows)
            if spent >= UNTIL * all_seconds:
                break
        progress(f"seed {stage.seed}: {name} used {spent / all_seconds:.1%}")


def points(rows: pd.DataFrame, metric: str, accuracy: str = "validation") -> list[Point]:
    """(cost, accuracy) of every row."""
    return list(zip(rows[metric].astype(float), rows[accuracy].astype(float), strict=True))


class Yardsticks:
    """What share of the exact front's hypervolume a seed's plans reach.

    ``reached``: by validation accuracies, the method's own against those of the same seed's table; a method may be
    above 1, since its plans are other draws of the same noise. ``worth``: the plans on the method's validation front by
    their test accuracy in the table, mean over all seeds, against the exact front of these means.
    Each with two references: chance level, and the worst accuracy in the table, which is stricter.
    """

    def __init__(self, table: pd.DataFrame, seed: int, metric: str) -> None:
        self.metric = metric
        own = table[table["seed"] == seed]
        self.truth = table.groupby("plan", sort=False)[[metric, "test"]].mean()
        dearest = float(own[metric].max()) * 1.01
        self.references = {
            ("reached", "chance"): (dearest, CHANCE),
            ("reached", "worst"): (dearest, float(own["validation"].min())),
            ("worth", "chance"): (dearest, CHANCE),
            ("worth", "worst"): (dearest, float(self.truth["test"].min())),
        }
        exact = {"reached": points(own, metric), "worth": points(self.truth, metric, "test")}
        self.exact = {key: hypervolume(exact[key[0]], reference) for key, reference in self.references.items()}

    def shares(self, rows: pd.DataFrame) -> dict[tuple[str, str], float]:
        """By (measure, reference)."""
        own = points(rows, self.metric)
        on_front = set(front(own))
        chosen = rows[[point in on_front for point in own]]
        worth = [(float(self.truth[self.metric][plan]), float(self.truth["test"][plan])) for plan in chosen["plan"]]
        found = {"reached": own, "worth": worth}
        return {
            key: hypervolume(found[key[0]], reference) / self.exact[key] for key, reference in self.references.items()
        }


def progress_of(rows: pd.DataFrame, by: str, total: float, yardsticks: Yardsticks) -> list[dict[str, float]]:
    """After every group of rows: the share of compute used so far, and the shares of the hypervolume."""
    found, spent = [], 0.0
    for number, (_, group) in enumerate(rows.groupby(by, sort=False)):
        spent += float(group["cpu_seconds"].sum())
        until = rows[rows[by].isin(list(dict.fromkeys(rows[by]))[: number + 1])]
        named = {" ".join(key): value for key, value in yardsticks.shares(until).items()}
        found.append({"compute": spent / total, **named})
    return found


def uniform_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Plans with the same bits on every layer."""
    return table[[len(set(plan.split())) == 1 for plan in table["plan"]]]


def all_progress(table: pd.DataFrame, methods: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Columns campaign, seed, order, compute, and every share; ``uniform`` and ``random`` are drawn from the table."""
    found: list[dict[str, object]] = []
    for seed, own in table.groupby("seed"):
        yardsticks, total = Yardsticks(table, int(seed), metric), float(own["cpu_seconds"].sum())
        for name, rows in methods[methods["seed"] == seed].groupby("campaign", sort=False):
            found += [
                {"campaign": name, "seed": seed, "order": 0} | entry
                for entry in progress_of(rows, "attempt", total, yardsticks)
            ]
        found += [
            {"campaign": "uniform", "seed": seed, "order": 0} | entry
            for entry in progress_of(uniform_rows(own), "plan", total, yardsticks)
        ]
        generator = random.Random(int(seed))
        for order in range(RANDOM_ORDERS):
            drawn = own.iloc[generator.sample(range(len(own)), round(UNTIL * len(own)))]
            found += [
                {"campaign": "random", "seed": seed, "order": order} | entry
                for entry in progress_of(drawn, "plan", total, yardsticks)
            ]
    return pd.DataFrame(found)


def within(steps: pd.DataFrame, share: float) -> pd.DataFrame:
    """One row a campaign and seed: the state at a share of the compute, mean over random orders."""
    inside = steps[steps["compute"] <= share]
    last = inside.groupby(["campaign", "seed", "order"], sort=False).last()
    return last.groupby(level=["campaign", "seed"], sort=False).mean()


def report(table: pd.DataFrame, methods: pd.DataFrame, space: SearchSpace, out: Path) -> str:
    """Write figures; the text."""
    metric = space.metric
    steps = all_progress(table, methods, metric)
    names = list(dict.fromkeys(steps["campaign"]))
    state = within(steps, SHARE)
    rows = []
    for name in names:
        own = state.loc[name] if name in state.index else None
        cells = (
            ["—"] * 4
            if own is None
            else [spread(own[f"{m} {r}"], 100) for m in ("reached", "worth") for r in ("chance", "worst")]
        )
        arrived = steps[(steps["campaign"] == name) & (steps["reached chance"] >= AIM)]
        first = arrived.groupby(["seed", "order"])["compute"].min()
        runs = steps[steps["campaign"] == name].groupby(["seed", "order"]).ngroups
        rows.append([name, *cells, f"{spread(first, 100, 1)} ({len(first)} of {runs})" if len(first) else "never"])
    seeds = table["seed"].nunique()
    count = table["plan"].nunique()
    _draw(table, steps, names, metric, out)
    return (
        "# The exact front of a small case, and what methods reach of it\n\n"
        f"Space `{space.name}`: {count} allocations, {seeds} seeds, {space.training.epochs} epochs each; "
        f"{table['cpu_seconds'].sum() / 60:.0f} CPU minutes for all. Machine: {machine()}.\n\n"
        f"Share of the exact front's hypervolume in %, within {SHARE:.0%} of the compute of all allocations, mean ± "
        "standard deviation over the seeds. *Reached*: validation accuracies as measured, against the same seed's "
        "exact front; above 100 is the luck of another draw. *Worth*: the plans chosen on validation by their mean "
        "test accuracy in the table of all allocations, against the exact front of these means: what the allocations "
        "are worth, without luck. The reference is chance level, or (stricter) the worst accuracy in the table.\n\n"
        + figures.table(
            [
                "method",
                "reached, chance",
                "reached, worst",
                "worth, chance",
                "worth, worst",
                f"% of compute to reach {AIM:.0%} (chance); runs that did",
            ],
            rows,
        )
        + "\n![Every allocation and the exact front](front.svg)\n\n![Hypervolume against compute](hypervolume.svg)\n\n"
        f"Every allocation: `table.csv`; every run of a method: `methods.csv`. Made by {made_by()}.\n"
    )


def _draw(table: pd.DataFrame, steps: pd.DataFrame, names: list[str], metric: str, out: Path) -> None:
    means = table.groupby("plan", sort=False)[[metric, "validation", "test"]].mean()

    def fronts(axes: Axes) -> None:
        axes.scatter(means[metric], 100 * means["test"], s=8, color="#808892", alpha=0.5, label="every allocation")
        steps_of = front(points(means, metric, "test"))
        axes.step([c for c, _ in steps_of], [100 * a for _, a in steps_of], where="post", label="exact front")
        same = uniform_rows(means.reset_index())
        axes.scatter(same[metric], 100 * same["test"], s=24, marker="s", color="#D55E00", label="uniform")

    figures.draw(out / "front.svg", (metric, "Test accuracy, mean over seeds (%)"), fronts)

    def curves(axes: Axes) -> None:
        grid = [UNTIL * number / 70 for number in range(1, 71)]
        for number, name in enumerate(names):
            own = steps[steps["campaign"] == name]
            means = [within(own, share)["reached worst"].mean() for share in grid]
            axes.plot(
                [100 * x for x in grid], [100 * m for m in means], markevery=7, label=name, **figures.look(number)
            )
        axes.axhline(100 * AIM, color="#808892", linewidth=0.6, linestyle="--")
        axes.axvline(100 * SHARE, color="#808892", linewidth=0.6, linestyle="--")

    labels = ("CPU seconds, % of those of all allocations", "Hypervolume, % of the exact front's\n(reference: worst)")
    figures.draw(out / "hypervolume.svg", labels, curves, width=6)


def main() -> None:
    """Measure what is missing and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default=str(SMALL))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = SearchSpace.load(arguments.space)
    table = Ledger(arguments.out / "table.csv", ("seed", "plan"))
    methods = Ledger(arguments.out / "methods.csv", ("seed", "campaign", "attempt"))
    for seed in range(arguments.seeds):
        stage = Stage(space, seed, arguments.out / "float")
        train_all(stage, table)
        own = table.table
        run_methods(stage, float(own[own["seed"] == seed]["cpu_seconds"].sum()), methods)
        done = complete_seeds(table.table, len(list(allocations(stage))))
        text = report(done, methods.table, space, arguments.out)
        write_whole(arguments.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
