"""What a spiking network's neurons should send once several spike bits are trained: one level, or all of their bits.

    python -m benchmarks.evidence.multi_bit --out reports/evidence/multi_bit

The network of docs/your-own-network.md on digits, at 4 time steps, and on their event recordings, at 8: from the same
float network, uniform plans are trained with neurons that send single spikes, as the network's own do, and with neurons
that send as many levels as they have bits. Accuracies are those on validation. Started again with the same ``--out``,
it goes on.
"""

import argparse
from pathlib import Path

import torch

from benchmarks.evidence import figures
from benchmarks.evidence.csnn import CSNN
from benchmarks.evidence.runs import Ledger, Row
from benchmarks.provenance import machine, made_by
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.cost import AllowedBits, CostModel, trace
from bitsearch.data import batches, load_data
from bitsearch.layers import convert
from bitsearch.layers.network import QuantizedNetwork
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.train.evaluate import evaluate
from bitsearch.train.loop import train
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training

STATIC_STEPS = 4
KINDS = ("single", "several")
SETTINGS = Training(batch_size=64, learning_rate=2e-3)


def several(plan: dict[str, LayerPlan]) -> dict[str, LayerPlan]:
    """A plan whose neurons send as many levels as they have bits."""
    return {
        name: layer.model_copy(update={"neuron": layer.neuron and layer.neuron.multi_bit()})
        for name, layer in plan.items()
    }


def measure(ledger: Ledger, data: str, seed: int, epochs: int) -> None:
    """Add what is missing of one data set and seed."""
    splits = load_data(data, {}, split_seed=0)
    frames = splits.frames
    time_steps = frames or STATIC_STEPS
    plans = [
        UniformBits(weight_bits=4, spike_bits=spikes, time_steps=steps)
        for steps in (time_steps, 2)
        for spikes in (2, 4)
    ]
    keys: list[Row] = [{"data": data, "seed": seed, "bits": str(bits)} for bits in plans]
    if all(key in ledger for key in keys):
        return
    torch.manual_seed(seed)
    network = CSNN(splits.input_shape, splits.classes, time_steps=0 if frames else STATIC_STEPS)
    train(network, TrainingSession(splits, SETTINGS), epochs=2 * epochs, seed=seed, phase="full precision")
    inputs, _ = next(iter(batches(splits.train, 32)))
    model = CostModel(trace(network, inputs, time_axis=frames is not None))
    first = FirstLayer(weight_bits=8, spike_bits=8, time_steps=frames or 1)
    rules = AllowedBits.make(model, Choices(time_steps=Span(low=1, high=time_steps)), first)
    for key, bits in zip(keys, plans, strict=True):
        if key in ledger:
            continue
        single = rules.nearest(model, bits, granularity="layer", decay=None)
        row: Row = {}
        for name, plan in zip(KINDS, (single, several(single)), strict=True):
            quantized = QuantizedNetwork(convert(network, plan), model, rules, bits)
            train(quantized, TrainingSession(splits, SETTINGS), epochs=epochs, seed=seed, phase=name)
            row[name] = 100 * evaluate(quantized, splits.validation, 64)
        ledger.add(key, [row])
        print(key | row, flush=True)


def main() -> None:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ledger = Ledger(arguments.out / "runs.csv", ("data", "seed", "bits"))
    for seed in range(arguments.seeds):
        for data in ("digits", "digits_events"):
            measure(ledger, data, seed, arguments.epochs)
    rows = [
        [data, bits, len(group), *(f"{group[name].mean():.2f} ± {group[name].std():.2f}" for name in KINDS)]
        for (data, bits), group in ledger.table.groupby(["data", "bits"], sort=False)
    ]
    means = [f"{ledger.table[name].mean():.2f}" for name in KINDS]
    heads = ["data", "w/s/T", "seeds", "single spikes", "all levels"]
    text = (
        "# Several spike bits: one level, or all of them\n\n"
        "Accuracy on validation in %, mean ± standard deviation over seeds, of uniform plans trained from one spiking\n"
        f"network, whose own neurons send single spikes. Machine: {machine()}.\n\n"
        f"{figures.table(heads, [*rows, ['all', '', len(ledger.rows), *means]])}\n\n"
        "A converted network's neurons send single spikes until their bits are trained, and all levels then.\n\n"
        f"Made by {made_by()}.\n"
    )
    (arguments.out / "README.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
