"""How well each estimator predicts what one bit, or one time step, less does to the loss.

    python -m benchmarks.signal --out reports/benchmarks

For every seed and bit width the network is trained at that width with two time steps. Then one layer at a time loses
one weight bit, one spike bit in every step, or one time step; the step size is renewed, and the loss on 512 training
images (batch statistics) is compared with what each estimator had predicted. Sign agreement: share of layers; rank
correlation: Spearman over the layers of one network; both averaged over seeds and bit widths, with standard errors.
"""

import argparse
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from bitsearch.allocate.adaptive import make_searchable
from bitsearch.allocate.curvature import Curvature
from bitsearch.allocate.quantized_network import QuantizedNetwork
from bitsearch.allocate.setting import make_setting
from bitsearch.allocate.trainer import train
from bitsearch.plan import LayerPlan, UniformBits, write_whole
from bitsearch.space import SearchSpace

ESTIMATORS = ("straight_through", "first_order", "quantization_error", "curvature", "kl_128")
KINDS = ("weight bits", "spike bits", "time steps")
TIME_STEPS = 2
SAMPLES = 512
PROBES = 4


def networks(
    space: SearchSpace, seeds: int, widths: list[int]
) -> Iterator[tuple[int, int, QuantizedNetwork, Tensor, Tensor]]:
    """(seed, bits, trained quantized network, images, labels)."""
    for seed in range(seeds):
        setting = make_setting(space.model_copy(update={"split_seed": seed}), device="cpu")
        training, splits = space.training, setting.splits
        network = setting.fresh_network(seed)
        train(network, splits, training, epochs=training.full_precision_epochs, seed=seed, phase="")
        images, labels = splits.train[:SAMPLES]
        for bits in widths:
            start = UniformBits(weight_bits=bits, spike_bits=bits, time_steps=TIME_STEPS)
            quantized = make_searchable(network, setting.model, space, space.allocation_with({"start": start}))
            still = {"bits_learning_rate": 0.0, "time_learning_rate": 0.0}
            train(quantized, splits, training, epochs=training.epochs, seed=seed, phase="", latent_rates=still)
            yield seed, bits, quantized.train(), images, labels


def one_less(plan: LayerPlan, kind: str) -> LayerPlan:
    """The layer's plan after the loss of one weight bit, one spike bit a step, or one time step."""
    if kind == "weight bits":
        return plan.model_copy(update={"weight_bits": plan.weight_bits - 1})
    if kind == "spike bits":
        return plan.model_copy(update={"spike_bits": tuple(bits - 1 for bits in plan.spike_bits)})
    return plan.model_copy(update={"spike_bits": plan.spike_bits[:-1], "time_steps": plan.time_steps - 1})


@torch.no_grad()
def logits_and_operands(network: QuantizedNetwork, images: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """(logits, mean spikes and quantized weight of the layer ``name``)."""
    seen: list[tuple[Tensor, Tensor]] = []
    layer = network.layers[name]
    layer.observer = lambda x, spikes, weight: seen.append((spikes, weight))
    logits = network.network(images)
    layer.observer = None
    return logits, *seen[0]


def measure(network: QuantizedNetwork, images: Tensor, labels: Tensor, seed: int) -> Iterator[dict[str, object]]:
    """One row a layer and kind: the real change of the loss, and every estimator's prediction."""
    state = {name: value.clone() for name, value in network.network.state_dict().items()}
    curvature = Curvature(network, seed)
    for batch in images.split(SAMPLES // PROBES):
        curvature.probe(batch)
    gradients = operand_gradients(network, images, labels)
    for name, layer in network.searched_layers.items():
        plan = layer.layer_plan
        base, spikes, weight = logits_and_operands(network, images, name)
        slopes = {
            "weight bits": layer.weight_latent.grad,
            "spike bits": layer.spike_latent.grad.sum(),
            "time steps": layer.time_latent.grad,
        }
        for kind in KINDS:
            less = one_less(plan, kind)
            layer.follow_latents(less.weight_bits, [float(bits) for bits in less.spike_bits], less.time_steps)
            assert layer.layer_plan == less
            changed, new_spikes, new_weight = logits_and_operands(network, images, name)
            network.network.load_state_dict(state)
            of_weight = kind == "weight bits"
            difference = new_weight - weight if of_weight else new_spikes - spikes
            predict = curvature.weight_loss if of_weight else curvature.spike_loss
            few = slice(128)
            yield {
                "layer": name,
                "kind": kind,
                "real": loss_of(changed, labels) - loss_of(base, labels),
                "straight_through": -float(slopes[kind]),
                "first_order": float((gradients[name][int(of_weight)] * difference).sum()),
                "quantization_error": float(difference.square().mean()),
                "curvature": predict(name, less) - predict(name, plan),
                "kl_128": float(
                    nn.functional.kl_div(
                        changed[few].log_softmax(-1), base[few].log_softmax(-1), log_target=True, reduction="batchmean"
                    )
                ),
            }


def loss_of(logits: Tensor, labels: Tensor) -> float:
    """Cross-entropy."""
    return float(nn.functional.cross_entropy(logits, labels))


def operand_gradients(network: QuantizedNetwork, images: Tensor, labels: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Gradients of the loss by (mean spikes, quantized weight) of every layer; latents keep theirs in ``grad``."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str):  # type: ignore[no-untyped-def]
        def observe(x: Tensor, spikes: Tensor, weight: Tensor) -> None:
            spikes.retain_grad()
            weight.retain_grad()
            seen[name] = (spikes, weight)

        return observe

    for name, layer in network.searched_layers.items():
        layer.observer = keep(name)
        layer.straight_through = True
    network.zero_grad(set_to_none=True)
    nn.functional.cross_entropy(network.network(images), labels).backward()
    for layer in network.searched_layers.values():
        layer.observer = None
    return {name: (spikes.grad, weight.grad) for name, (spikes, weight) in seen.items()}


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
    parser.add_argument("--space", default="digits")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--bits", default="2,3,4,6")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    widths = [int(width) for width in arguments.bits.split(",")]
    rows = []
    for seed, bits, network, images, labels in networks(SearchSpace.load(arguments.space), arguments.seeds, widths):
        rows += [{"seed": seed, "bits": bits, **row} for row in measure(network, images, labels, seed)]
        print(f"seed {seed}, {bits} bits", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    text = (
        f"# Which signal predicts the real change of the loss?\n\nSpace `{arguments.space}`, {arguments.seeds} seeds, "
        f"{arguments.bits} bits, T = {TIME_STEPS}. Sign agreement / rank correlation with the measured change, mean ± "
        f"standard error. Machine: {platform.machine()}, torch {torch.__version__}.\n\n{summary(quality(table))}\n\n"
        f"Every layer: `signal.csv`. Made by `python -m benchmarks.signal {' '.join(sys.argv[1:])}`.\n"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "signal.md", text)
    write_whole(arguments.out / "signal.csv", table.to_csv(index=False))
    print(text)


if __name__ == "__main__":
    main()
