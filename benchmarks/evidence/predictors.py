r"""What predicts the accuracy after training: the rank correlation of every signal with that of trained plans.

    python -m benchmarks.evidence.predictors --table reports/evidence/exhaustive/table.csv --out DIR
    python -m benchmarks.evidence.predictors --space cifar10_folder --set data_options.root=ROOT \
        --table reports/evidence/accuracy-cifar10/runs.csv --groups 3 --out DIR

Plans and their accuracies come from a table of trained plans, which may be the runs of accuracy.py, or so many random
ones are trained. A signal predicts a plan's loss as the sum over its layers of what their weights' and what their
spikes' bits cost; training wins back more of the first, so that each signal is also tried with the weights' part at a
quarter, and without it.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.evidence import figures
from benchmarks.evidence.fronts import at_equal_cost, rank_correlation, spread
from benchmarks.evidence.runs import SMALL, Ledger, Plan, Stage, complete_seeds, progress
from benchmarks.provenance import machine, made_by
from benchmarks.signal import backward_pass
from bitsearch.allocate.adaptive import make_searchable
from bitsearch.allocate.curvature import Curvature
from bitsearch.allocate.moves import LevelCount, LossModel
from bitsearch.allocate.prediction import predict
from bitsearch.allocate.quantized_network import QuantizedNetwork
from bitsearch.allocate.random_plans import random_plan
from bitsearch.allocate.sensitivity import score
from bitsearch.allocate.trainer import train
from bitsearch.cost import Budget
from bitsearch.data import batches
from bitsearch.plan import UniformBits, write_whole
from bitsearch.space import Choices, SearchSpace

SAMPLES = 512
PROBES = 8
WEIGHT_PARTS = (1.0, 0.25, 0.0)


@dataclass
class Slopes:
    """The straight-through gradient: linear in the bits from where it was measured."""

    weight: Mapping[str, float]
    spike: Mapping[str, float]
    time: Mapping[str, float]

    def weight_loss(self, name: str, weight_bits: int) -> float:
        """Slope · bits, up to a constant."""
        return self.weight[name] * weight_bits

    def spike_loss(self, name: str, spike_bits: tuple[int, ...]) -> float:
        """Likewise, of the mean spike bits and of the time steps."""
        return self.spike[name] * float(np.mean(spike_bits)) + self.time[name] * len(spike_bits)


@dataclass
class Probed:
    """KL divergence of the logits when one layer alone gets other bits; measured when it is asked for."""

    network: QuantizedNetwork
    images: Tensor
    base: Tensor
    state: dict[str, Tensor]
    weight_part: float = 1.0
    """Of the weights' divergences, this much counts."""
    known: dict[tuple[str, int, tuple[int, ...]], float] = field(default_factory=dict)

    @classmethod
    def make(cls, network: QuantizedNetwork, images: Tensor, weight_part: float = 1.0) -> "Probed":
        """From the network as it is, with batch statistics."""
        state = {name: value.clone() for name, value in network.network.state_dict().items()}
        with torch.no_grad():
            return cls(network, images, predict(network.network, images).log_softmax(-1), state, weight_part)

    @torch.no_grad()
    def _divergence(self, name: str, weight_bits: int, spike_bits: tuple[int, ...]) -> float:
        key = (name, weight_bits, spike_bits)
        if key not in self.known:
            layer = self.network.layers[name]
            layer.follow_latents(weight_bits, [float(bits) for bits in spike_bits], len(spike_bits))
            changed = predict(self.network.network, self.images).log_softmax(-1)
            self.network.network.load_state_dict(self.state)
            divergence = nn.functional.kl_div(changed, self.base, log_target=True, reduction="batchmean")
            self.known[key] = float(divergence)
        return self.known[key]

    def weight_loss(self, name: str, weight_bits: int) -> float:
        """With other weight bits."""
        return self.weight_part * self._divergence(name, weight_bits, self.network.layers[name].layer_plan.spike_bits)

    def spike_loss(self, name: str, spike_bits: tuple[int, ...]) -> float:
        """With other spike bits."""
        return self._divergence(name, self.network.layers[name].layer_plan.weight_bits, spike_bits)


def training_images(stage: Stage) -> tuple[Tensor, Tensor]:
    """Images and labels that signals are measured on, on the network's device."""
    order = torch.Generator().manual_seed(stage.seed)
    images, labels = next(iter(batches(stage.setting.splits.train, SAMPLES, order)))
    return images.to(stage.setting.device), labels.to(stage.setting.device)


def quantized_at(stage: Stage, bits: UniformBits, *, trained: bool) -> QuantizedNetwork:
    """The float network at uniform bits, as it is or after the epochs of a trial; latents are there, but still."""
    space = stage.space
    wide = space.model_copy(update={"choices": Choices()})
    own = Stage(wide, stage.seed, stage.kept) if bits not in _Within(space.choices) else stage
    knobs = own.space.allocation_with({"start": bits.model_dump()})
    network = make_searchable(stage.network, own.setting.model, own.setting.rules, own.space, knobs)
    if trained:
        still = {"bits_learning_rate": 0.0, "time_learning_rate": 0.0}
        splits, training = stage.setting.splits, space.training
        train(network, splits, training, epochs=training.epochs, seed=stage.seed, phase="", latent_rates=still)
    network.train()
    with torch.no_grad():
        # The first batch in training mode settles every step size.
        network(training_images(stage)[0])
    return network


@dataclass(frozen=True)
class _Within:
    choices: Choices

    def __contains__(self, bits: UniformBits) -> bool:
        return self.choices.nearest(bits) == bits


def slopes(network: QuantizedNetwork, images: Tensor, labels: Tensor) -> Slopes:
    """Of the loss with respect to every layer's latents."""
    names = list(network.searched_layers)
    backward_pass(network, images, labels, names)
    layers = network.layers
    found = Slopes(
        {name: float(layers[name].weight_latent.grad) for name in names},  # type: ignore[union-attr]
        {name: float(layers[name].spike_latent.grad.sum()) for name in names},  # type: ignore[union-attr]
        {name: float(layers[name].time_latent.grad) for name in names},  # type: ignore[union-attr]
    )
    network.zero_grad(set_to_none=True)
    return found


def fisher(network: QuantizedNetwork, images: Tensor, seed: int, batch_axis: int) -> Curvature:
    """Of the network as it is."""
    curvature = Curvature(network, seed, batch_axis=batch_axis)
    for part in images.tensor_split(PROBES, dim=batch_axis):
        curvature.probe(part)
    return curvature


def plain_error(network: QuantizedNetwork, images: Tensor, seed: int, batch_axis: int) -> Curvature:
    """Mean squared quantization errors: every element counts alike."""
    curvature = fisher(network, images, seed, batch_axis)
    for name in network.searched_layers:
        curvature.replace_by_traces(name, 2.0, 2.0)
    return curvature


def signals(stage: Stage, at: UniformBits) -> dict[str, tuple[LossModel, float]]:
    """By name: a loss model and the CPU seconds that it took to measure, the training of its network not counted."""
    images, labels = training_images(stage)
    axis, seed = stage.setting.splits.batch_axis, stage.seed
    time_steps = stage.space.choices.time_steps.nearest(2)
    fine = UniformBits(weight_bits=8, spike_bits=8, time_steps=time_steps)
    places = {
        "float network": quantized_at(stage, fine, trained=False),
        f"trained at {at.weight_bits}/{at.spike_bits}": quantized_at(stage, at, trained=True),
    }
    makers: dict[str, Callable[[], LossModel]] = {"level count": LevelCount}
    # How much of the weights' part counts is tried afterwards.
    given = {
        "Fisher as `sensitivity` has it": {},
        "Hessian as `sensitivity` has it": {"sensitivity": "hessian"},
        # Without a time axis the same as the first.
        "Fisher, binning of frames in full": {"time_tolerance": 1.0},
    }
    for name, knobs in given.items():
        problem = stage.problem(stage.space.allocation_with({"weight_tolerance": 1.0} | knobs))
        makers[name] = lambda problem=problem: score(problem)  # type: ignore[misc]
    for place, network in places.items():
        makers |= {
            f"straight-through gradient, {place}": lambda network=network: slopes(network, images, labels),
            f"plain error, {place}": lambda network=network: plain_error(network, images, seed, axis),
            f"Fisher, {place}": lambda network=network: fisher(network, images, seed, axis),
            f"KL probe, {place}": lambda network=network: Probed.make(network, images),
        }
    found = {}
    for name, make in makers.items():
        started = time.process_time()
        model = make()
        found[name] = (model, time.process_time() - started)
    return found


def predicted(model: LossModel, plan: Plan, searched: tuple[str, ...], weight_part: float) -> float:
    """A plan's loss by a signal."""
    return sum(
        weight_part * model.weight_loss(name, plan[name].weight_bits) + model.spike_loss(name, plan[name].spike_bits)
        for name in searched
    )


@torch.no_grad()
def immediate_loss(stage: Stage, network: QuantizedNetwork, plan: Plan, images: Tensor, labels: Tensor) -> float:
    """Cross-entropy of the float network at the plan's bits, with batch statistics, before any training."""
    state = {name: value.clone() for name, value in network.network.state_dict().items()}
    for name in stage.setting.rules.searched:
        bits = plan[name]
        network.layers[name].follow_latents(bits.weight_bits, [float(b) for b in bits.spike_bits], bits.time_steps)
    loss = nn.functional.cross_entropy(predict(network.network, images), labels)
    network.network.load_state_dict(state)
    return float(loss)


def correlations(
    stage: Stage, table: pd.DataFrame, truth: pd.Series, at: UniformBits, groups: int
) -> list[dict[str, object]]:
    """One row a signal and weight part: rank correlations with the accuracy of trained plans."""
    own = table[table["seed"] == stage.seed].drop_duplicates("plan").set_index("plan")
    plans = {text: stage.plan(text) for text in own.index}
    real, cost = truth[own.index], own[stage.space.metric]
    found: list[dict[str, object]] = []

    def judge(name: str, part: float | None, values: pd.Series, seconds: float) -> None:
        found.append(
            {
                "seed": stage.seed,
                "signal": name,
                "weights at": part,
                "all": rank_correlation(-values, real),
                "at equal cost": at_equal_cost(-values, real, cost, groups),
                "seconds": seconds,
            }
        )

    searched = stage.setting.rules.searched
    for name, (model, seconds) in signals(stage, at).items():
        for part in WEIGHT_PARTS:
            started = time.process_time()
            losses = pd.Series({text: predicted(model, plan, searched, part) for text, plan in plans.items()})
            # Loss models measure a width when it is asked for first.
            seconds += time.process_time() - started if part == WEIGHT_PARTS[0] else 0.0
            judge(name, part, losses, seconds)
    images, labels = training_images(stage)
    largest = stage.space.choices
    dearest = UniformBits(
        weight_bits=largest.weight_bits.high, spike_bits=largest.spike_bits.high, time_steps=largest.time_steps.high
    )
    network = quantized_at(stage, dearest, trained=False)
    started = time.process_time()
    losses = pd.Series({text: immediate_loss(stage, network, plan, images, labels) for text, plan in plans.items()})
    judge("loss of the whole plan before training", None, losses, time.process_time() - started)
    curves = own["curve"].str.split().map(lambda values: [float(value) for value in values])
    each = own["cpu_seconds"] / own["epochs"]
    for epochs in (1, 2, 4):
        if epochs < curves.map(len).min():
            name = f"accuracy after {epochs} of {curves.map(len).max()} epochs"
            judge(name, None, -curves.map(lambda values, n=epochs: values[n - 1]), float((epochs * each).sum()))
    judge(
        "the same plan's accuracy after all epochs, this seed",
        None,
        -own["validation"],
        float(own["cpu_seconds"].sum()),
    )
    judge("cost alone", None, -cost, 0.0)
    return found


def train_random(stage: Stage, count: int, table: Ledger) -> None:
    """Random plans at limits spread over the axis of the cost."""
    setting, metric = stage.setting, stage.space.metric
    model, rules = setting.model, setting.rules
    low = model.cost(metric, rules.smallest(model))
    high = model.cost(metric, rules.nearest(model, stage.space.allocation.start, granularity="layer"))
    for draw in range(count):
        key = {"seed": stage.seed, "draw": draw}
        if key in table:
            continue
        limit = low * (high / low) ** ((draw + 1) / count)
        generator = np.random.default_rng((stage.seed, draw))
        plan = random_plan(rules.smallest(model), model, rules, [Budget(metric, f"{limit:.4g}", limit)], generator)
        table.add(key, [stage.fixed(plan)])
        progress(f"seed {stage.seed}: random plan {draw + 1} of {count}")


def report(found: pd.DataFrame, space: SearchSpace, plans: int, source: str, groups: int, out: Path) -> str:
    """Write the figure; the text."""
    seeds = found["seed"].nunique()
    rows = []
    mean = found.groupby(["signal", "weights at"], sort=False, dropna=False)
    for (name, part), group in mean:
        shown = "" if pd.isna(part) else f"{part:g}"
        rows.append(
            [name, shown, *(spread(group[column]) for column in ("all", "at equal cost")), spread(group["seconds"])]
        )
    best = (
        found.assign(part=found["weights at"].fillna(1.0))
        .groupby("signal", sort=False)["at equal cost"]
        .max()
        .sort_values()
    )

    def paint(axes) -> None:  # type: ignore[no-untyped-def]
        axes.barh(list(best.index), best.to_numpy(), color="#0072B2")
        axes.tick_params(axis="y", labelsize=6)

    figures.draw(out / "predictors.svg", ("Best rank correlation at nearly equal cost", ""), paint, width=6.5)
    return (
        "# What predicts the accuracy after training?\n\n"
        f"Space `{space.name}`, {plans} plans ({source}), {seeds} seeds. Spearman's rank correlation of each signal "
        "with the plans' validation accuracy after training (mean over the seeds), mean ± standard deviation over the "
        f"seeds that the signal was measured for: over all plans, and within {groups} groups of nearly equal cost, "
        "which is what decides at a budget. *Weights at*: how much of the weights' part is counted. Seconds: CPU, to "
        f"score all plans; short trainings are the first epochs of the long one. Machine: {machine()}.\n\n"
        + figures.table(["signal", "weights at", "all plans", "at equal cost", "seconds"], rows)
        + f"\n![Best of every signal](predictors.svg)\n\nEvery seed: `signals.csv`. Made by {made_by()}.\n"
    )


def main() -> None:
    """Measure every seed and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default=str(SMALL))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=3, help="without --table")
    parser.add_argument("--table", type=Path, help="trained plans, as exhaustive.py or accuracy.py writes them")
    parser.add_argument("--plans", type=int, default=30, help="without --table: train so many random ones")
    parser.add_argument("--groups", type=int, default=6, help="of nearly equal cost")
    parser.add_argument("--at", default="1/2", help="bits of the uniform plan whose trained network is measured")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = SearchSpace.load(arguments.space).override(arguments.set)
    keys = ("seed", "plan") if arguments.table else ("seed", "draw")
    table = Ledger(arguments.table or arguments.out / "plans.csv", keys)
    weight_bits, spike_bits = map(int, arguments.at.split("/"))
    time_steps = space.choices.time_steps.nearest(2)
    at = UniformBits(weight_bits=weight_bits, spike_bits=spike_bits, time_steps=time_steps)
    measured = Ledger(arguments.out / "signals.csv", ("seed",))
    if arguments.table:
        trained = table.table.dropna(subset="plan")
        seeds_of = trained.groupby("plan")["seed"].nunique()
        if "method" in trained:
            # Methods choose other plans with every seed.
            trained = trained[trained["plan"].isin(seeds_of[seeds_of == trained["seed"].nunique()].index)]
        known = complete_seeds(trained, trained["plan"].nunique())
        kept, seeds = arguments.table.parent / "float", sorted(known["seed"].unique())
    else:
        kept, seeds = arguments.out / "float", list(range(arguments.seeds))
    stages = [Stage(space, int(seed), kept) for seed in seeds]
    if not arguments.table:
        for stage in stages:
            train_random(stage, arguments.plans, table)
        known = table.table
    truth = known.groupby("plan")["validation"].mean()
    for stage in stages:
        if {"seed": stage.seed} not in measured:
            measured.add({"seed": stage.seed}, correlations(stage, known, truth, at, arguments.groups))
            progress(f"seed {stage.seed}: measured")
    source = f"those of `{arguments.table}`" if arguments.table else "random"
    text = report(measured.table, space, len(truth), source, arguments.groups, arguments.out)
    write_whole(arguments.out / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
