"""Where learned allocations stand against the best uniform plans, at several budgets, over several seeds.

    python benchmarks/budgets.py --out reports/budgets

Every seed has its own split, starting weights and search. Both sides are chosen on validation; the test split is read
once, for the chosen ones. Two conventions for the first layer: counted at its fixed 8/8/1, and left out of the bit
counts, as published tables do.
"""

import argparse
import multiprocessing
import platform
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
import torch

from bitsearch.plan import BitPlan, write_whole
from bitsearch.search.front import best_plan
from bitsearch.search.run import search
from bitsearch.space import SearchSpace


def one_search(space_name: str, budget: str, seed: int, counted: bool, trials: int) -> list[dict[str, object]]:
    """Rows of the best adaptive and the best uniform plan of one search."""
    torch.set_num_threads(1)
    space = SearchSpace.load(space_name)
    first_layer = space.first_layer.model_copy(update={"counted": counted})
    space = space.model_copy(update={"first_layer": first_layer, "split_seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        result = search(space, budget, seed=seed, trials=trials, out=Path(folder) / "run")
        full = result.folder.settings.full_precision
        rows = [row("full precision", None, full.validation, full.test)]
        for method in ("adaptive", "uniform"):
            plans = [plan for plan in result.folder.plans() if plan.provenance.method == method]
            best = best_plan(plans, result.folder.settings.metric)
            assert best is not None
            test = best.accuracy.test if best.accuracy.test is not None else measured(result, best)
            rows.append(row(method, best, best.accuracy.validation, test))
    shared = {"budget": budget, "first_layer": "counted" if counted else "left out", "seed": seed}
    return [shared | values for values in rows]


def measured(result, plan: BitPlan) -> float:
    """Test accuracy of a plan that the report does not show."""
    from bitsearch.search.evaluate import evaluate_plan

    return evaluate_plan(result.folder.plan_file(plan.provenance.trial), split="test", device="cpu")


def row(method: str, plan: BitPlan | None, validation: float, test: float) -> dict[str, object]:
    """One line of the table of results."""
    cost = None if plan is None else plan.costs["bit_budget"]
    layers = [] if plan is None else list(plan.layers.values())[1:]
    bits = " ".join(f"{layer.weight_bits}/{','.join(map(str, layer.spike_bits))}" for layer in layers)
    return {"method": method, "validation": validation, "test": test, "bit_budget": cost, "weight/spike bits": bits}


def summary(table: pd.DataFrame) -> str:
    """Markdown: mean ± standard deviation over seeds, adaptive beside uniform beside full precision."""
    lines = [
        "| budget | first layer | adaptive, test % | uniform, test % | difference | full precision, test % |",
        "|---|---|---|---|---|---|",
    ]
    for (first_layer, budget), group in table.groupby(["first_layer", "budget"], sort=False):
        test = {method: 100 * rows.set_index("seed")["test"] for method, rows in group.groupby("method")}
        cells = [spread(test["adaptive"]), spread(test["uniform"]), spread(test["adaptive"] - test["uniform"])]
        lines.append(f"| {budget} | {first_layer} | {' | '.join(cells)} | {spread(test['full precision'])} |")
    return "\n".join(lines)


def spread(values: pd.Series) -> str:
    """Mean ± standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{values.mean():.2f} ± {deviation:.2f}"


def main() -> None:
    """Run the searches, two at a time, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="digits")
    parser.add_argument("--budgets", default="4x,16x,32x")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    jobs = [
        (arguments.space, budget, seed, counted, arguments.trials)
        for counted in (True, False)
        for budget in arguments.budgets.split(",")
        for seed in range(arguments.seeds)
    ]
    with ProcessPoolExecutor(max_workers=2, mp_context=multiprocessing.get_context("spawn")) as pool:
        rows = []
        for job, found in zip(jobs, pool.map(one_search, *zip(*jobs, strict=True)), strict=True):
            rows += found
            print(*job, *(f"{line['method']} {line['test']:.4f}" for line in found), file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    machine = (
        f"{platform.machine()}, one thread a search, torch {torch.__version__}, Python {platform.python_version()}"
    )
    text = (
        f"# Learned allocations against the best uniform plans\n\n"
        f"Space `{arguments.space}`, {arguments.seeds} seeds (each with its own split), {arguments.trials} "
        f"adaptive trials a search. Mean ± standard deviation of the test accuracy over the seeds; difference: "
        f"adaptive − uniform, seed by seed. Both are the best of their kind on validation. Machine: {machine}.\n\n"
        f"{summary(table)}\n\n"
        f"Every search: `runs.csv`. Made by `python {' '.join(sys.argv)}`.\n"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "README.md", text)
    write_whole(arguments.out / "runs.csv", table.to_csv(index=False))
    print(text)


if __name__ == "__main__":
    main()
