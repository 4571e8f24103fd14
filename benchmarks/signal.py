"""How well each estimator predicts what one bit, or one time step, less does to the loss.

    python -m benchmarks.signal --out reports/benchmarks
    python -m benchmarks.signal --space cifar10_folder --set data_options.root=ROOT --layers 12 --out reports/benchmarks
    python -m benchmarks.signal --space benchmarks/pitch.toml --seeds 3 --out reports/benchmarks
    python -m benchmarks.signal --space benchmarks/shapes.toml --seeds 3 --out reports/benchmarks

For every seed and bit width the network is trained at that width with two time steps. Then one layer at a time loses
one weight bit, one spike bit in every step, or one time step; the step size is renewed, and the task's loss on 512
training samples (batch statistics) is compared with what each estimator had predicted. ``divergence_128`` is that of
the outputs of 128 samples, as the loss has it: of cross-entropy KL, of squared error the mean squared change. Sign
agreement: share of layers; rank correlation: Spearman over the layers of one network; both averaged over seeds and bit
widths, with standard errors.

``other_images`` is no estimator but the ceiling of all: the same change measured on 512 other training images. What it
misses is the noise of a batch, which nothing that has not seen these very images and labels can predict.
"""

import argparse
import platform
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from benchmarks.provenance import made_by
from bitsearch.allocation.methods.base import make_learnable_copy
from bitsearch.allocation.signals.fisher_loss import FisherLossModel
from bitsearch.allocation.signals.probed_loss import CalibratedFisher
from bitsearch.errors import InputError
from bitsearch.files import write_whole
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.space import SearchSpace
from bitsearch.train.loop import train
from bitsearch.train.predict import predict
from bitsearch.train.session import TrainingSession
from bitsearch.train.task import load_task
from bitsearch.train.tasks import LearningTask

ESTIMATORS = (
    "straight_through",
    "first_order",
    "quantization_error",
    "curvature",
    "probed",
    "divergence_128",
    "other_images",
)
KINDS = ("weight bits", "spike bits", "time steps")
DEFAULT_SPACE = "digits"
TIME_STEPS = 2
SAMPLES = 512
PROBES = 4
ROUNDS = 2
"""Every layer's weights and spikes are probed so often, each time on 128 images."""


class Batch(NamedTuple):
    """``[N, ...]`` and ``[N]``."""

    images: Tensor
    labels: Tensor


def networks(
    space: SearchSpace, seeds: int, widths: list[int]
) -> Iterator[tuple[int, int, QuantizedNetwork, list[Batch], LearningTask]]:
    """(seed, bits, trained quantized network, two batches of training samples, what it has learned)."""
    for seed in range(seeds):
        task = load_task(space.model_copy(update={"split_seed": seed}), seed=seed, device="cpu")
        training, splits = space.training, task.splits
        session = TrainingSession(splits, training, task=task.learning_task)
        network = task.fresh_network()
        train(network, session, epochs=training.full_precision_epochs, seed=seed, phase="")
        batches = [Batch(*splits.train[start : start + SAMPLES]) for start in (0, SAMPLES)]
        for bits in widths:
            start = UniformBits(weight_bits=bits, spike_bits=bits, time_steps=TIME_STEPS)
            quantized = make_learnable_copy(
                network, task.model, task.rules, space, space.allocation_with({"start": start})
            )
            still = {"bits_learning_rate": 0.0, "time_learning_rate": 0.0}
            train(quantized, session, epochs=training.epochs, seed=seed, phase="", latent_rates=still)
            yield seed, bits, quantized.train(), batches, task.learning_task


def one_less(plan: LayerPlan, kind: str) -> LayerPlan:
    """The layer's plan after the loss of one weight bit, one spike bit a step, or one time step."""
    if kind == "weight bits":
        return plan.model_copy(update={"weight_bits": plan.weight_bits - 1})
    if kind == "spike bits":
        return plan.model_copy(update={"spike_bits": tuple(bits - 1 for bits in plan.spike_bits)})
    return plan.model_copy(update={"spike_bits": plan.spike_bits[:-1], "time_steps": plan.time_steps - 1})


class Operands(NamedTuple):
    """A layer's mean spikes and quantized weight, and the loss's gradients with respect to them."""

    spikes: Tensor
    weight: Tensor
    spikes_gradient: Tensor
    weight_gradient: Tensor


@torch.no_grad()
def outputs_and_operands(
    network: QuantizedNetwork, images: Tensor, name: str, task: LearningTask
) -> tuple[Tensor, Tensor, Tensor]:
    """(outputs, mean spikes and quantized weight of the layer ``name``)."""
    seen: list[tuple[Tensor, Tensor]] = []
    layer = network.layers[name]
    layer.observer = lambda x, spikes, weight: seen.append((spikes, weight))
    outputs = predict(network.network, images, task.form)
    layer.observer = None
    return outputs, *seen[0]


def measure(
    network: QuantizedNetwork, batch: Batch, other: Batch, seed: int, task: LearningTask, layers: int | None = None
) -> Iterator[dict[str, object]]:
    """One row a layer and kind: the real change of the loss of ``batch``, and every estimator's prediction.

    With ``layers``, so many of the searched ones, drawn with ``seed``.
    """
    names = list(network.searched_layers)
    if layers is not None and layers < len(names):
        names = sorted(random.Random(seed).sample(names, layers), key=names.index)
    state = {name: value.clone() for name, value in network.network.state_dict().items()}
    images, labels = batch
    curvature, probed = FisherLossModel(network, seed, task=task), CalibratedFisher(network, seed, task=task)
    parts, targets = images.split(SAMPLES // PROBES), labels.split(SAMPLES // PROBES)
    for part, of_part in zip(parts, targets, strict=True):
        curvature.probe(part, targets=[of_part])
        probed.probe(part, targets=[of_part])
    turns = 2 * len(network.searched_layers)
    for turn in range(ROUNDS * turns):
        probed.correct(parts[turn // turns])
    network.network.load_state_dict(state)
    with torch.no_grad():
        other_base = predict(network.network, other.images, task.form)
    network.network.load_state_dict(state)
    base, operands = backward_pass(network, images, labels, names, task)
    for name in names:
        layer, now = network.layers[name], operands[name]
        plan = layer.layer_plan
        slopes = {
            "weight bits": layer.weight_latent.grad,
            "spike bits": layer.spike_latent.grad.sum(),
            "time steps": layer.time_latent.grad,
        }
        for kind in KINDS:
            less = one_less(plan, kind)
            layer.round_latents(less.weight_bits, [float(bits) for bits in less.spike_bits], less.time_steps)
            assert layer.layer_plan == less
            changed, new_spikes, new_weight = outputs_and_operands(network, images, name, task)
            with torch.no_grad():
                other_changed = predict(network.network, other.images, task.form)
            network.network.load_state_dict(state)
            of_weight = kind == "weight bits"
            difference = new_weight - now.weight if of_weight else new_spikes - now.spikes
            gradient = now.weight_gradient if of_weight else now.spikes_gradient
            predicted = [
                model.weight_loss(name, less.weight_bits) - model.weight_loss(name, plan.weight_bits)
                if of_weight
                else model.spike_loss(name, less.spike_bits) - model.spike_loss(name, plan.spike_bits)
                for model in (curvature, probed)
            ]
            few = slice(128)
            yield {
                "layer": name,
                "kind": kind,
                "real": loss_of(task, changed, labels) - loss_of(task, base, labels),
                "straight_through": -float(slopes[kind]),
                "first_order": float((gradient * difference).sum()),
                "quantization_error": float(difference.square().mean()),
                "curvature": predicted[0],
                "probed": predicted[1],
                "other_images": loss_of(task, other_changed, other.labels) - loss_of(task, other_base, other.labels),
                "divergence_128": float(task.loss.divergence(base[few], changed[few])) / len(base[few]),
            }


def loss_of(task: LearningTask, outputs: Tensor, labels: Tensor) -> float:
    """The task's, a sample."""
    return float(task.loss.summed(outputs, labels)) / len(outputs)


def backward_pass(
    network: QuantizedNetwork, images: Tensor, labels: Tensor, names: list[str], task: LearningTask
) -> tuple[Tensor, dict[str, Operands]]:
    """(outputs, operands of the layers ``names``) as the network is; latents keep their gradients in ``grad``."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str):  # type: ignore[no-untyped-def]
        def observe(x: Tensor, spikes: Tensor, weight: Tensor) -> None:
            spikes.retain_grad()
            weight.retain_grad()
            seen[name] = (spikes, weight)

        return observe

    for name in names:
        network.layers[name].observer = keep(name)
        network.layers[name].straight_through = True
    network.zero_grad(set_to_none=True)
    outputs = predict(network.network, images, task.form)
    (task.loss.summed(outputs, labels) / len(outputs)).backward()
    for name in names:
        network.layers[name].observer = None
    found = {name: Operands(*(t.detach() for t in pair), *(t.grad for t in pair)) for name, pair in seen.items()}
    return outputs.detach(), found


def quality(rows: pd.DataFrame) -> pd.DataFrame:
    """Sign agreement and rank correlation of every estimator and kind, one row a network."""
    found = []
    for (seed, bits, kind), group in rows.groupby(["seed", "bits", "kind"]):
        for estimator in ESTIMATORS:
            agreement = float(((group[estimator] > 0) == (group["real"] > 0)).mean())
            rank = group[estimator].corr(group["real"], method="spearman")
            found.append(
                {"seed": seed, "bits": bits, "kind": kind, "estimator": estimator, "sign": agreement, "rank": rank}
            )
    return pd.DataFrame(found)


def summary(table: pd.DataFrame) -> str:
    """Markdown: sign agreement / rank correlation, mean ± standard error."""
    lines = [f"| estimator | {' | '.join(KINDS)} |", "|---|---|---|---|"]
    for estimator in ESTIMATORS:
        cells = []
        for kind in KINDS:
            part = table[(table["estimator"] == estimator) & (table["kind"] == kind)]
            cells.append(" / ".join(f"{part[name].mean():+.2f} ± {part[name].sem():.2f}" for name in ("sign", "rank")))
        lines.append(f"| {estimator} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure every network and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default=DEFAULT_SPACE)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="network_options.width=8")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--bits", default="2,3,4,6")
    parser.add_argument("--layers", type=int, help="measure so many layers of every network, drawn with its seed")
    parser.add_argument("--timeout", type=float, default=float("inf"), help="seconds; an unfinished seed is left out")
    parser.add_argument("--note", default="", help="a sentence for the table, such as what the data is")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    widths = [int(width) for width in arguments.bits.split(",")]
    try:
        space = SearchSpace.load(arguments.space).override(arguments.set)
    except InputError as error:
        parser.error(str(error))
    started = time.monotonic()
    rows: list[dict[str, object]] = []
    done: list[dict[str, object]] = []
    for seed, bits, network, (batch, other), task in networks(space, arguments.seeds, widths):
        measured = measure(network, batch, other, seed, task, arguments.layers)
        rows += [{"seed": seed, "bits": bits, **row} for row in measured]
        if bits == widths[-1]:
            done = list(rows)
        print(f"seed {seed}, {bits} bits: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        if time.monotonic() - started > arguments.timeout:
            break
    if not done:
        sys.exit("No seed was finished in time; nothing is written.")
    table = pd.DataFrame(done)
    seeds = table["seed"].nunique()
    cut = "" if seeds == arguments.seeds else f" (of {arguments.seeds}; the time was up)"
    note = f" {arguments.note}" if arguments.note else ""
    layers = "" if arguments.layers is None else f", {arguments.layers} layers of each network"
    name = "signal" if arguments.space == DEFAULT_SPACE else f"signal-{space.name}"
    text = (
        f"# Which signal predicts the real change of the loss?\n\nSpace `{space.name}`, {seeds} seeds{cut}, "
        f"{arguments.bits} bits, T = {TIME_STEPS}{layers}. Sign agreement / rank correlation with the measured change, "
        f"mean ± standard error. Machine: {platform.machine()}, torch {torch.__version__}.{note}\n\n"
        f"{summary(quality(table))}\n\n"
        f"Every layer: `{name}.csv`. Made by {made_by()}.\n"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / f"{name}.md", text)
    write_whole(arguments.out / f"{name}.csv", table.to_csv(index=False))
    print(text)


if __name__ == "__main__":
    main()
