"""What a reconstruction wins: by its iterations, by the samples of each, and by the outputs of residual blocks.

    python -m benchmarks.reconstruction --out reports/benchmarks
    python -m benchmarks.reconstruction --set name=digits_resnet20 --set network=resnet20 \
        --set 'network_options={width = 4}' --set training.full_precision_epochs=12 \
        --lengths 0x16,100x16 --budgets 16x --out reports/benchmarks

The plan with the least predicted loss within each budget, and the uniform one, are calibrated without a reconstruction
first; then with each of several, from the same network. The divergence is from the float network's predictions, over
its spread among them, both on the whole validation split; accuracies are on the same.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from unittest import mock

import pandas as pd
import torch
from torch import nn

from benchmarks.evidence import figures
from benchmarks.evidence.fronts import spread
from benchmarks.evidence.runs import Row, Stage, progress
from benchmarks.provenance import machine, made_by
from bitsearch.calibrate import CalibrationSamples, calibrate, calibration_splits, reconstruction
from bitsearch.calibrate.calibration import held_out_divergence, held_out_spread
from bitsearch.calibrate.reconstruction import reconstruct
from bitsearch.cost import Budget
from bitsearch.files import write_whole
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.post_training.run import SAMPLES
from bitsearch.post_training.scores import ScoredLoss, measure_scores
from bitsearch.post_training.solving import ScoredNetwork
from bitsearch.space import SearchSpace
from bitsearch.train.evaluate import evaluate
from bitsearch.train.session import TrainingSession


def blocks(quantized: QuantizedNetwork) -> list[str]:
    """Module paths of blocks, such as residual ones: parts that several layers are in, and that are no mere sequence.

    None of a network of spiking neurons, which sends spikes from block to block and, quantized, their currents.
    """
    layers = quantized.layers
    if any(layer.replaces_neurons or layer.in_place for layer in layers.values()):
        return []
    return [
        name
        for name, module in quantized.network.named_modules()
        if name
        and not isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
        and sum(layer.startswith(f"{name}.") for layer in layers) > 1
    ]


def measure(stage: Stage, requests: list[str], lengths: list[tuple[int, int]]) -> Iterator[Row]:
    """A row a budget, kind of plan, length, and whether blocks count, where the network has any."""
    task, space, network = stage.task, stage.space, stage.network.eval()
    splits = calibration_splits(task.splits, SAMPLES, stage.seed)
    samples = CalibrationSamples.of(splits, task.device, space.training.at_once)
    validation = CalibrationSamples.of(
        calibration_splits(replace(task.splits, train=task.splits.validation), len(task.splits.validation), 0),  # type: ignore[arg-type]
        task.device,
        space.training.at_once,
    )
    judged = replace(validation, held_out=validation.fitted)
    untrained = space.allocation.model_copy(update={"weight_tolerance": 1.0, "time_tolerance": 1.0})
    problem = replace(stage.problem(untrained), session=TrainingSession(splits, space.training))
    scores = measure_scores(problem, samples)
    scored = ScoredNetwork(task.model, task.rules, ScoredLoss(scores), space.allocation)
    whole = held_out_spread(network, judged, task.learning_task)
    for request in requests:
        budget = Budget.parse(request, space.metric, task.model, space.baseline)
        plans = {
            "searched": scored.best([budget], scores.activity),
            "uniform": scored.best_uniform([budget], scores.activity, 1)[0],
        }
        for kind, plan in plans.items():
            prepared = problem.quantized(plan)
            calibrate(prepared, network, samples, task.learning_task, iterations=0)
            parts = blocks(prepared)
            for (iterations, batch), counted in product(lengths, (parts, []) if parts else (parts,)):
                if not iterations and counted:
                    continue
                quantized, started = copy.deepcopy(prepared).eval(), time.process_time()
                with (
                    mock.patch.object(reconstruction, "BATCH", batch),
                    mock.patch.object(
                        reconstruction, "compared", lambda network, counted=counted: [*network.layers, *counted]
                    ),
                ):
                    reconstruct(quantized, network, samples, task.learning_task, iterations=iterations, seed=stage.seed)
                yield {
                    "seed": stage.seed,
                    "budget": request,
                    "kind": kind,
                    "iterations": iterations,
                    "batch": batch,
                    "outputs": "layers, blocks" if counted else "layers",
                    "seconds": time.process_time() - started,
                    "divergence": held_out_divergence(quantized, network, judged, task.learning_task) / whole,
                    "accuracy": evaluate(quantized, task.splits.validation, space.training.at_once),
                }


def summary(table: pd.DataFrame) -> str:
    """Markdown: a row a budget, kind and length, each the mean over the seeds."""
    rows = []
    for (request, kind, iterations, batch, outputs), group in table.groupby(
        ["budget", "kind", "iterations", "batch", "outputs"], sort=False
    ):
        length = f"{iterations} × {batch}" if iterations else "none"
        rows.append(
            [
                *(request, kind, length, outputs if iterations else "", f"{group['seconds'].mean():.2f}"),
                *(spread(group[column], 100) for column in ("divergence", "accuracy")),
            ]
        )
    heads = [
        "budget",
        "plan",
        "iterations × samples",
        "outputs",
        "CPU seconds",
        "divergence, % of the spread",
        "validation %",
    ]
    return figures.table(heads, rows)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="digits")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--budgets", default="8x,16x")
    parser.add_argument("--lengths", default="0x16,50x16,100x16,50x32,100x32", help="ITERATIONSxSAMPLES, 0 for none")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--float", type=Path, metavar="FOLDER", help="where float networks are kept, and found again")
    parser.add_argument("--out", type=Path, help="folder for reconstruction-SPACE.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space, rows = SearchSpace.load(arguments.space).override(arguments.set), []
    lengths = [
        (int(iterations), int(batch)) for iterations, batch in (x.split("x") for x in arguments.lengths.split(","))
    ]
    with tempfile.TemporaryDirectory() as kept:
        for seed in range(arguments.seeds):
            for row in measure(
                Stage(space, seed, arguments.float or Path(kept)), arguments.budgets.split(","), lengths
            ):
                rows.append(row)
                progress(" ".join(f"{key} {value}" for key, value in row.items()))
    text = f"""# What a reconstruction wins: {space.name}

Mean ± standard deviation over {arguments.seeds} seeds. Steps, batch norms and biases are calibrated before, alike for
all rows of a plan; "none" is that alone. Results are taken as they are, though an allocation undoes what leads away.

{summary(pd.DataFrame(rows))}
Made by {made_by()}; {machine()}.
"""
    print(text)
    if arguments.out is not None:
        write_whole(arguments.out / f"reconstruction-{space.name}.md", text)


if __name__ == "__main__":
    main()
