"""Fashion-MNIST with HGQ2 (Sun et al. 2026): bits of every weight and activation, learned under a price of EBOPs.

    python benchmarks/rivals/hgq2.py --samples samples.npz --out reports/evidence/rivals/hgq2.csv

Runs in an environment of its own, which has no bitsearch: ``pip install hgq2==0.2.0 jax==0.10.2``. The samples come
from ``python -m benchmarks.rivals.samples``; network, batch size, optimizer and number of epochs are those of the space
``fashion_mnist_cnn``, where a plan costs its epochs in full precision and those of the trial. The price of an EBOP
follows HGQ2's own controller until the target is met. Started again with the same ``--out``, it goes on.
"""

import argparse
import csv
import math
import os
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import keras
import numpy as np
from hgq.config import LayerConfigScope, QuantizerConfig, QuantizerConfigScope
from hgq.layers import QConv2D, QDense
from hgq.utils import trace_minmax
from hgq.utils.sugar import BetaPID, FreeEBOPs

WIDTHS = (16, 32, 64)
HEADS = ("granularity", "target", "seed", "ebops", "validation", "test", "epochs", "seconds")


def network(granularity: str) -> keras.Model:
    """``small_cnn``: three blocks of a convolution, batch norm, ReLU and largest pooling, and a linear classifier.

    Bits are learned for every weight and every activation (HGQ2's defaults), or one width a layer.
    """
    layer = granularity == "layer"
    shared = {"heterogeneous_axis": ()} if layer else {}
    with (
        QuantizerConfigScope(place="weight", default_q_type="kbi", overflow_mode="SAT_SYM", **shared),
        QuantizerConfigScope(place="datalane", default_q_type="kif", overflow_mode="WRAP", **shared),
        LayerConfigScope(enable_ebops=True, beta0=1e-9),
    ):
        x = inputs = keras.Input((28, 28, 1))
        for width in WIDTHS:
            x = QConv2D(width, 3, padding="same", use_bias=False)(x)
            x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
            x = keras.layers.ReLU()(x)
            x = keras.layers.MaxPooling2D(2)(x)
        outputs = QDense(10, bq_conf=QuantizerConfig(place="bias"))(keras.layers.Flatten()(x))
    return keras.Model(inputs, outputs)


class Within(keras.callbacks.Callback):
    """The weights that are best on validation among the epochs that meet the target."""

    def __init__(self, target: float) -> None:
        super().__init__()
        self.target, self.best, self.weights = target, -1.0, None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Keep them, and print a line."""
        if logs["ebops"] <= self.target and logs["val_accuracy"] > self.best:
            self.best, self.weights = logs["val_accuracy"], self.model.get_weights()
        print(f"epoch {epoch + 1}: {logs['ebops']:.3g} EBOPs, validation {logs['val_accuracy']:.4f}", flush=True)


def train(samples: dict[str, np.ndarray], granularity: str, target: float, seed: int, epochs: int, beta: float) -> dict:
    """One network at one target; a row."""
    keras.utils.set_random_seed(seed)
    started = time.process_time()
    model, within = network(granularity), Within(target)
    steps = epochs * math.ceil(len(samples["train_x"]) / 128)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        samples["train_x"],
        samples["train_y"],
        batch_size=128,
        epochs=epochs,
        validation_data=(samples["validation_x"], samples["validation_y"]),
        callbacks=[BetaPID(0.95 * target, init_beta=beta, p=1.0, i=0.2, warmup=1), FreeEBOPs(), within],
        verbose=0,
    )
    row = {"granularity": granularity, "target": target, "seed": seed, "epochs": epochs}
    if within.weights is None:
        return row | {"ebops": math.nan, "seconds": round(time.process_time() - started)}
    model.set_weights(within.weights)
    # As HGQ2 asks before a network is judged: integer bits of the activations from the training samples.
    ebops = trace_minmax(model, samples["train_x"], batch_size=1024)
    scores = {
        part: float((model.predict(samples[f"{part}_x"], 512, 0).argmax(1) == samples[f"{part}_y"]).mean())
        for part in ("validation", "test")
    }
    return row | {"ebops": float(ebops)} | scores | {"seconds": round(time.process_time() - started)}


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--targets", default="4x,8x,16x,32x", help="of what 64 bit operations a multiplication cost")
    parser.add_argument("--granularities", default="element,layer")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument(
        "--beta", type=float, default=3e-7, help="the first price of an EBOP, which the controller moves"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no training starts later")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with np.load(arguments.samples) as file:
        samples = {name: file[name] for name in file.files}
    deadline = time.monotonic() + 60 * arguments.minutes
    rows = list(csv.DictReader(arguments.out.open())) if arguments.out.is_file() else []
    done = {(row["granularity"], float(row["target"]), int(row["seed"])) for row in rows}
    for seed in range(arguments.seeds):
        for request in arguments.targets.split(","):
            target = float(samples["baseline"]) / float(request.removesuffix("x"))
            for granularity in arguments.granularities.split(","):
                if (granularity, target, seed) in done or time.monotonic() > deadline:
                    continue
                rows.append(train(samples, granularity, target, seed, arguments.epochs, arguments.beta))
                print(rows[-1], flush=True)
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                with arguments.out.open("w", newline="") as file:
                    writer = csv.DictWriter(file, HEADS)
                    writer.writeheader()
                    writer.writerows(rows)


if __name__ == "__main__":
    main()
