r"""bitsearch beside HGQ2 on Fashion-MNIST: test accuracy against EBOPs, the bit operations of one input.

    python -m benchmarks.evidence.accuracy --space fashion_mnist_cnn --set data_options.root=ROOT --set metric=s_ace \
        --set 'choices.weight_bits=[1,2,3,4,6,8]' --set 'choices.spike_bits=[1,2,3,4,6,8]' \
        --set 'choices.time_steps=[1]' \
        --set 'layers=[{match="conv1",weight_bits=[1,2,3,4,6,8],spike_bits=[1,2,3,4,6,8]}]' \
        --methods uniform,adaptive,sensitivity --trials 1 --seeds 1 --out reports/evidence/rivals/bitsearch
    python -m benchmarks.rivals.compare --set data_options.root=ROOT --out reports/evidence/rivals

Reads what these and ``benchmarks/rivals/hgq2.py`` have measured. At one time step S-ACE is EBOPs, but for the products
with padding, which S-ACE counts; they are left out on both sides here.
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks.evidence import figures
from benchmarks.evidence.fronts import spread
from benchmarks.provenance import machine, made_by
from benchmarks.rivals.samples import multiplications
from bitsearch.files import write_whole
from bitsearch.space import SearchSpace
from bitsearch.train.task import load_task

FULL_PRECISION = "full_precision"


def own_rows(file: Path, products: list[float]) -> pd.DataFrame:
    """A row a budget, method and seed: the plan that is best on validation among those found for that budget."""
    table = pd.read_csv(file, dtype={"plan": str})
    plans = table[table["method"] != FULL_PRECISION].copy()

    def ebops(plan: str) -> float:
        pairs = (map(int, layer.split("/")) for layer in plan.split())
        return sum(count * weight * spikes for count, (weight, spikes) in zip(products, pairs, strict=True))

    plans["ebops"] = plans["plan"].map(ebops)
    groups = plans.groupby(["budget", "method", "seed"], sort=False)
    best = plans.loc[groups["validation"].idxmax()].set_index(["budget", "method", "seed"])
    best["seconds"] = groups["cpu_seconds"].sum()
    return best.reset_index()


def rival_rows(file: Path, baseline: float) -> pd.DataFrame:
    """HGQ2's networks, in the same columns; those that no epoch brought below their target are left out."""
    table = pd.read_csv(file).dropna(subset=["ebops"])
    table["budget"] = (baseline / table["target"]).round().astype(int).astype(str) + "x"
    table["method"] = "HGQ2, bits of every " + table["granularity"]
    return table


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    space = SearchSpace.load("fashion_mnist_cnn").override(arguments.set)
    task = load_task(space, seed=0)
    products = multiplications(task.fresh_network(), task.examples[:1])
    baseline = space.baseline.weight_bits * space.baseline.spike_bits * space.baseline.time_steps * sum(products)
    file = arguments.out / "bitsearch" / "runs.csv"
    table = pd.concat([own_rows(file, products), rival_rows(arguments.out / "hgq2.csv", baseline)])
    full = pd.read_csv(file).query("method == @FULL_PRECISION")["test"]
    rows = []
    for budget in sorted(table["budget"].unique(), key=lambda text: -int(text.removesuffix("x"))):
        here = table[table["budget"] == budget]
        for method, own in here.groupby("method", sort=False):
            cells = (spread(own["validation"], 100), spread(own["test"], 100), spread(own["ebops"], 1e-6))
            rows.append([budget, method, *cells, spread(own["seconds"], 1, 0), str(len(own))])
    heads = ["budget", "method", "validation %", "test %", "million EBOPs", "CPU seconds", "seeds"]
    text = (
        "# Beside HGQ2\n\nFashion-MNIST, all 60,000 training images (6,000 held back for validation), three "
        f"convolutions; {sum(products) / 1e6:.2f} million products an input. Full precision: {spread(full, 100)} % on "
        "the test split. Every plan of bitsearch has one time step and one width a layer, is found from a network "
        f"trained for {space.training.full_precision_epochs} epochs, and trained for {space.training.epochs}; its CPU "
        "seconds are those of the search and the trial, of all plans tried for *uniform*, without full precision. HGQ2 "
        "trains from fresh weights for as many epochs as both together, with bits for every single weight and "
        "activation, zero bits allowed; the epoch that is best on validation within the budget stands, and its price "
        "follows HGQ2's own controller. A budget is a share of 64 bit operations a product. The test split is read for "
        f"the networks shown alone. Machine: {machine()}.\n\n" + figures.table(heads, rows) + "\n\nEvery run: "
        f"`bitsearch/runs.csv`, `hgq2.csv`. Made by {made_by()}.\n"
    )
    write_whole(arguments.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
