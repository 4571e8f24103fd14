"""What half precision and the order of axes in memory make of the time of a quantized training step.

    python -m benchmarks.precision

A step is forward, backward and optimizer at w4 s4 T1, with compiled quantizers. All variants take turns in every round,
the first of them float32 with the axes in torch's own order; the table has medians of the rounds' ratios to it, of the
process's own CPU time, since others may compute beside it.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import bitsearch
from benchmarks.provenance import machine, made_by
from bitsearch.models import make_network
from bitsearch.plan import UniformBits
from bitsearch.quant.compilation import compiled_quantizers
from bitsearch.train.precision import autocast
from bitsearch.training import Precision

# Name, factory, input shape, batch size.
NETWORKS = (("ResNet-20", "resnet20", (3, 32, 32), 128), ("digits", "digits_cnn", (1, 8, 8), 64))
VARIANTS: tuple[tuple[Precision, bool], ...] = (
    ("float32", False),
    ("float32", True),
    ("bfloat16", False),
    ("bfloat16", True),
)
"""(precision, whether channels come last)."""


def make_step(factory: str, shape: tuple[int, ...], batch: int, precision: Precision, last: bool) -> Callable[[], None]:
    """One training step of a variant, on its own copy of the network and the same random batch."""
    torch.manual_seed(0)
    network = make_network(factory, {}, input_shape=shape, classes=10)
    images, labels = torch.randn(batch, *shape), torch.randint(10, (batch,))
    quantized = bitsearch.quantize(network, images[:2], start=UniformBits(weight_bits=4, spike_bits=4, time_steps=1))
    quantized.fix(quantized.layer_plans)
    if last:
        images = images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(quantized.parameter_groups(1e-3), lr=1e-3, fused=True)
    quantized.train()

    def step() -> None:
        with compiled_quantizers():
            with autocast(images.device, precision):
                outputs = quantized(images)
            loss = nn.functional.cross_entropy(outputs.float(), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return step


def main() -> None:
    """Measure every network and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    names = [f"{precision}{', channels last' if last else ''}" for precision, last in VARIANTS]
    print(f"| network | {names[0]}, s | {' | '.join(names[1:])} |")
    print("|---" * (len(names) + 1) + "|")
    for name, factory, shape, batch in NETWORKS:
        steps = [make_step(factory, shape, batch, *variant) for variant in VARIANTS]
        for step in steps:
            step()
            step()
        rounds = []
        for _ in range(arguments.rounds):
            seconds = []
            for step in steps:
                start = time.process_time()
                step()
                seconds.append(time.process_time() - start)
            rounds.append(seconds)
        ratios = [statistics.median(row[index] / row[0] for row in rounds) for index in range(1, len(names))]
        first = statistics.median(row[0] for row in rounds)
        print(f"| {name}, batch {batch} | {first:.3f} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |", flush=True)
    print(f"\n{arguments.rounds} rounds, seed 0, {machine()}. Made by {made_by()}.")


if __name__ == "__main__":
    main()
