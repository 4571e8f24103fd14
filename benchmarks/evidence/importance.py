"""Is it importance or size? What the bits that plans take from layers go with.

    python -m benchmarks.evidence.importance --space digits --runs reports/evidence/accuracy-digits/runs.csv --out DIR

For every plan of a table, over its searched layers: Spearman's rank correlation of the bits taken from weights (and
from spikes) with the layer's size, and with its measured sensitivity, the KL divergence of the float network's logits
when that layer's weights (or spikes) alone get the fewest bits. Bits taken by size would correlate positively with the
first; bits kept where they matter, negatively with the second. Per cost: the sensitivity divided by the size, which is
what an ideal allocation goes by.
"""

import argparse
import math
from pathlib import Path

import pandas as pd
import torch

from benchmarks.evidence import figures
from benchmarks.evidence.fronts import rank_correlation, spread
from benchmarks.evidence.loss_signals import Probed, quantized_at, training_images
from benchmarks.evidence.runs import Ledger, Stage
from benchmarks.provenance import machine, made_by
from bitsearch.files import write_whole
from bitsearch.plan import UniformBits
from bitsearch.space import SearchSpace

KINDS = ("weight bits", "spike bits")
FIXED = ("full_precision", "uniform")
"""Methods whose plans treat all layers alike."""
SAMPLES = 128


def layers_of(stage: Stage) -> pd.DataFrame:
    """One row a searched layer and kind: its size (weights, or input features) and its sensitivity."""
    space, task = stage.space, stage.task
    fine = UniformBits(weight_bits=8, spike_bits=8, time_steps=space.choices.time_steps.nearest(2))
    images = training_images(stage)[0].narrow(task.splits.batch_axis, 0, SAMPLES)
    probed = Probed.make(quantized_at(stage, fine, trained=False), images)
    rows = []
    for layer in task.model.layers:
        if layer.name in task.rules.searched:
            choices = task.rules.choices[layer.name]
            sensitivities = (
                probed.weight_loss(layer.name, choices.weight_bits.low),
                probed.spike_loss(layer.name, (choices.spike_bits.low,) * fine.time_steps),
            )
            sizes = (layer.weights, layer.inputs)
            rows += [
                {"layer": layer.name, "kind": kind, "size": size, "sensitivity": sensitivity}
                for kind, size, sensitivity in zip(KINDS, sizes, sensitivities, strict=True)
            ]
    return pd.DataFrame(rows)


def bits_taken(stage: Stage, text: str) -> pd.DataFrame:
    """Columns of :data:`KINDS`, one row a searched layer: what a plan has less than the most that is allowed."""
    plan, rules = stage.plan(text), stage.task.rules
    taken = {
        name: (
            rules.choices[name].weight_bits.high - plan[name].weight_bits,
            # Steps of one bit each make finer spikes, too: levels, in bits.
            rules.choices[name].spike_bits.high - math.log2(sum(2**bits for bits in plan[name].spike_bits)),
        )
        for name in rules.searched
    }
    return pd.DataFrame.from_dict(taken, orient="index", columns=list(KINDS))


def correlations(stage: Stage, table: pd.DataFrame) -> pd.DataFrame:
    """One row a plan and kind of this stage's seed."""
    layers, rows = layers_of(stage), []
    own = table[(table["seed"] == stage.seed) & ~table["method"].isin(FIXED)].drop_duplicates(["method", "plan"])
    for method, text in zip(own["method"], own["plan"], strict=True):
        taken = bits_taken(stage, text)
        for kind in KINDS:
            of_kind = layers[layers["kind"] == kind].set_index("layer")
            bits = taken[kind][of_kind.index]
            rows.append(
                {
                    "seed": stage.seed,
                    "method": method,
                    "plan": text,
                    "kind": kind,
                    "size": rank_correlation(bits, of_kind["size"]),
                    "sensitivity": rank_correlation(bits, of_kind["sensitivity"]),
                    "sensitivity per size": rank_correlation(bits, of_kind["sensitivity"] / of_kind["size"]),
                }
            )
    return pd.DataFrame(rows)


def report(found: pd.DataFrame, space: SearchSpace) -> str:
    """The text."""
    rows = []
    for (method, kind), own in found.groupby(["method", "kind"], sort=False):
        cells = [spread(own[name]) for name in ("size", "sensitivity", "sensitivity per size")]
        rows.append([method, kind, len(own["size"].dropna()), *cells])
    return (
        f"# Importance or size? `{space.name}`\n\n"
        "Rank correlation, over the searched layers of a plan, of the bits taken from a layer with its size, its "
        "measured sensitivity, and sensitivity per size; mean ± standard deviation over the plans in which layers "
        f"differ ({found['seed'].nunique()} seeds). Taken by size alone: +1 in the first. Taken where they matter "
        f"least: −1 in the second. Machine: {machine()}.\n\n"
        + figures.table(["method", "of", "plans", "size", "sensitivity", "sensitivity per size"], rows)
        + f"\nEvery plan: `plans.csv`. Made by {made_by()}.\n"
    )


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="digits")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--runs", type=Path, required=True, help="a table with seed, method and plan")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = SearchSpace.load(arguments.space).override(arguments.set)
    table = Ledger(arguments.runs, ("seed", "method", "plan")).table
    seeds = sorted(table["seed"].unique())
    found = pd.concat([correlations(Stage(space, int(s), arguments.runs.parent / "float"), table) for s in seeds])
    text = report(found, space)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "README.md", text)
    write_whole(arguments.out / "plans.csv", found.to_csv(index=False))
    print(text)


if __name__ == "__main__":
    main()
