"""Whether an accuracy goal that holds on validation holds on test: whole searches with ``--max-drop``, over seeds.

    python -m benchmarks.evidence.goal --seeds 10 --out reports/evidence/goal

Each seed is a run folder in ``--runs``; started again, those that have ended are read, and one that was cut short goes
on.
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks.evidence import figures
from benchmarks.evidence.fronts import spread
from benchmarks.evidence.runs import Row, progress
from benchmarks.provenance import machine, made_by
from bitsearch.files import write_whole
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.paired import row_difference, score_of, standard_error
from bitsearch.runs.rows import read_rows
from bitsearch.space import SearchSpace
from bitsearch.study.run import search


def measured(folder: RunFolder) -> Row:
    """What full precision has and the chosen plan loses, in percent and points, and what plans cost."""
    settings, best = folder.settings, folder.chosen()
    goal = best.accuracy_goal
    assert goal is not None
    row: Row = {"seed": settings.seed, "trial": best.provenance.trial, "method": best.provenance.method}
    for part, path in (("validation", folder.validation_file), ("test", folder.test_file)):
        table = read_rows(path)
        pair = table[folder.full_precision_weights.stem], table[f"trial-{best.provenance.trial:04d}"]
        difference = row_difference(*pair, settings.score)
        assert difference is not None
        row |= {
            f"{part} full": 100 * score_of(pair[0]),
            f"{part} lost": 100 * difference.difference,
            f"{part} error": 100 * standard_error(*pair),
            f"{part} low": 100 * difference.low,
            f"{part} high": 100 * difference.high,
        }
    uniform = [plan for plan in folder.plans() if plan.provenance.method == "uniform" and plan.met]
    cost = min((plan.costs[settings.metric] for plan in uniform), default=None)
    saved = settings.baseline_costs[settings.metric] / best.costs[settings.metric]
    return row | {"held": goal.met, "cost": best.costs[settings.metric], "uniform cost": cost, "saved": saved}


def page(table: pd.DataFrame, space: SearchSpace, metric: str, goal: str) -> str:
    """The table of all seeds, and what they say together."""
    heads = ["seed", f"{metric}", "of the baseline", "uniform", "validation", "lost", "test", "lost (95 % interval)"]
    rows = [
        [
            row["seed"],
            f"{row['cost']:.3g}",
            f"1/{row['saved']:.1f}",
            "—" if pd.isna(row["uniform cost"]) else f"{row['uniform cost']:.3g}",
            f"{row['validation full']:.2f}",
            f"{row['validation lost']:.2f} ± {row['validation error']:.2f}",
            f"{row['test full']:.2f}",
            f"{row['test lost']:.2f} ({row['test low']:+.2f} to {row['test high']:+.2f})",
        ]
        for _, row in table.iterrows()
    ]
    limit = float(goal.rstrip("%").split("+")[0])
    above = int((table["test lost"] > limit).sum())
    beyond = "" if "%" in goal else f" On test it is above the goal in {above} of them."
    return f"""# An accuracy goal, on validation and on test

`--max-drop {goal}` on {space.name}: the cheapest plan that was found within the goal, a seed a row. Points lost against
the same seed's full precision, with the paired standard error on validation, by which the plan was chosen, and the
exact 95 % interval on test, which was read once. *Uniform*: the cheapest uniform plan within the goal.
{space.training.epochs} epochs a trial. Machine: {machine()}.

{figures.table(heads, rows)}

The goal holds on validation in {int(table["held"].sum())} of {len(table)} seeds. Lost, mean ± standard deviation over
seeds: {spread(table["validation lost"])} points on validation, {spread(table["test lost"])} on test.{beyond}

Made by {made_by()}.
"""


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="digits")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--max-drop", default="0.5")
    parser.add_argument("--minimize")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--runs", type=Path, default=Path("reports/goal"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    space = SearchSpace.load(arguments.space).override(arguments.overrides)
    rows, metric = [], ""
    for seed in range(arguments.seeds):
        result = search(
            space,
            max_drop=arguments.max_drop,
            minimize=arguments.minimize,
            trials=arguments.trials,
            seed=seed,
            device="cpu",
            out=arguments.runs / f"seed-{seed}",
        )
        rows.append(measured(result.folder))
        metric = result.folder.settings.metric
        progress(f"seed {seed}: {rows[-1]}")
    table = pd.DataFrame(rows)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "goal.csv", table.to_csv(index=False))
    text = page(table, space, metric, arguments.max_drop)
    write_whole(arguments.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
