"""How long the cost model takes on a network of many layers.

    python -m benchmarks.cost --out reports/benchmarks

Every metric of a plan at once, one metric as a tensor with its gradient, and the projection onto budgets from the
largest plan there is (8 weight bits, 8 time steps of 8 spike bits) and from 4/4/2, onto one budget and onto three.
Layers are random (seeded), their sizes spread over three orders of magnitude. Medians and ranges over rounds.
"""

import argparse
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.provenance import made_by
from bitsearch.allocation.solvers.projection import project
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.cost import AllowedBits, Budget, CostModel, LayerGeometry
from bitsearch.files import write_whole
from bitsearch.plan import UniformBits

SEED = 0
CHOICES = Choices(time_steps=Span(low=1, high=8))


def network(layers: int) -> CostModel:
    """A cost model of random layers."""
    random.seed(SEED)
    return CostModel(
        [
            LayerGeometry(
                name=f"layer{index}",
                macs=random.randint(10**5, 10**8),
                weights=random.randint(10**3, 10**6),
                inputs=random.randint(10**3, 10**6),
                outputs=random.choice((64, 128, 256)),
                signed_input=index == 0,
                first=index == 0,
            )
            for index in range(layers)
        ]
    )


def seconds(task: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """(median, least, most) after one round of warming up."""
    task()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        task()
        found.append(time.perf_counter() - start)
    return statistics.median(found), min(found), max(found)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    arguments = parser.parse_args()
    model = network(arguments.layers)
    rules = AllowedBits.make(model, CHOICES, FirstLayer())
    plans = {
        name: rules.nearest(model, bits, granularity="layer", decay=1.0)
        for name, bits in (
            ("8/8/8", UniformBits(weight_bits=8, spike_bits=8, time_steps=8)),
            ("4/4/2", UniformBits(weight_bits=4, spike_bits=4, time_steps=2)),
        )
    }
    one = [Budget("bit_budget", "16", 16.0)]
    baseline = model.uniform(UniformBits(weight_bits=8, spike_bits=4, time_steps=2), None)
    three = one + [
        Budget(metric, f"{ratio}x", model.cost(metric, baseline) / ratio)
        for metric, ratio in (("weight_memory", 3), ("working_memory", 1.5))
    ]
    for budget in three:
        budget.check_feasible(model, rules)

    def gradient() -> None:
        bits = [torch.full((arguments.layers,), value, requires_grad=True) for value in (4.0, 4.0, 2.0)]
        model.cost_tensor("energy", *bits).backward()  # type: ignore[no-untyped-call]

    tasks: dict[str, Callable[[], object]] = {
        "all metrics of a plan": lambda: model.costs(plans["4/4/2"]),
        "energy and its gradient": gradient,
    }
    for name, plan in plans.items():
        for budgets, words in ((one, "one budget"), (three, "three budgets")):
            tasks[f"projection from {name}, {words}"] = lambda plan=plan, budgets=budgets: project(  # type: ignore[misc]
                plan, model, budgets, rules
            )
    lines = ["| task | median, ms | least | most |", "|---|---|---|---|"]
    for name, task in tasks.items():
        cells = [f"{1000 * value:.2f}" for value in seconds(task, arguments.rounds)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    text = (
        f"# The price of the cost model\n\n{arguments.layers} random layers (seed {SEED}), {arguments.rounds} rounds. "
        f"Machine: {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}.\n\n"
        + "\n".join(lines)
        + f"\n\nMade by {made_by()}.\n"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "cost.md", text)
    print(text)


if __name__ == "__main__":
    main()
