"""Which share of a training epoch goes into preparing the data.

    python -m benchmarks.data --out reports/benchmarks

Images of CIFAR-10's shape and number, random and seeded, are kept in memory as bytes; a batch is indexed, normalized,
cropped and mirrored. ResNet-20 is trained on it in plain float32: quantized steps take longer, and the data's share of
them is smaller. With and without augmentation take turns, a few batches a round, and every batch's preparation and step
are timed one after the other, as the training loop runs them. Medians and ranges over rounds.
"""

import argparse
import itertools
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.provenance import made_by
from bitsearch.data import batches
from bitsearch.data.images import Crops, image_splits
from bitsearch.files import write_whole
from bitsearch.models import make_network

IMAGES = 45_000
"""As many as CIFAR-10 has for training when a tenth is held back."""
BATCH = 128
SEED = 0
CROPS = {"normalized": None, "normalized, cropped and mirrored": Crops()}


def endless(crops: Crops | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled training batches, epoch after epoch."""
    generator = torch.Generator().manual_seed(SEED)
    pixels = torch.randint(256, (IMAGES, 3, 32, 32), generator=generator, dtype=torch.uint8)
    part = (pixels, torch.randint(10, (IMAGES,), generator=generator))
    few = (pixels[:2], part[1][:2])
    train = image_splits({"train": part, "validation": few, "test": few}, classes=10, crops=crops).train
    return itertools.chain.from_iterable(batches(train, BATCH, generator) for _ in itertools.count())


def measure(rounds: int, steps: int) -> dict[str, list[tuple[float, float]]]:
    """(milliseconds of preparation, milliseconds of training) a batch, in every round."""
    torch.manual_seed(SEED)
    network = make_network("resnet20", {}, input_shape=(3, 32, 32), classes=10)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    sources = {name: endless(crops) for name, crops in CROPS.items()}

    def step(inputs: Tensor, labels: Tensor) -> None:
        loss = nn.functional.cross_entropy(network(inputs), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    for source in sources.values():
        step(*next(source))
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sources}
    for _ in range(rounds):
        for name, source in sources.items():
            preparing = training = 0.0
            for _ in range(steps):
                start = time.perf_counter()
                inputs, labels = next(source)
                ready = time.perf_counter()
                step(inputs, labels)
                preparing, training = preparing + ready - start, training + time.perf_counter() - ready
            found[name].append((1e3 * preparing / steps, 1e3 * training / steps))
    return found


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=3, help="batches a round")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    arguments = parser.parse_args()
    # Others at work stretch the times, and both parts alike: the shares stay.
    load = os.getloadavg()[0]
    lines = [
        "| images are | preparation, ms a batch | training, ms a batch | share of the epoch, % |",
        "|---|---|---|---|",
    ]
    for name, rounds in measure(arguments.rounds, arguments.steps).items():
        preparing, training = (statistics.median(column) for column in zip(*rounds, strict=True))
        shares = [100 * prepared / (prepared + trained) for prepared, trained in rounds]
        spread = f"{statistics.median(shares):.1f} ({min(shares):.1f} to {max(shares):.1f})"
        lines.append(f"| {name} | {preparing:.1f} | {training:.0f} | {spread} |")
        print(lines[-1], file=sys.stderr, flush=True)
    text = (
        "# What preparing the data costs\n\nResNet-20 (16 channels), float32, batches of "
        f"{BATCH} of {IMAGES:,} random 3×32×32 images in memory, medians and ranges of {arguments.rounds} interleaved "
        f"rounds of {arguments.steps} batches. Machine: {platform.machine()}, {os.cpu_count()} cores with a load of "
        f"{load:.1f} beforehand, torch {torch.__version__} with {torch.get_num_threads()} threads, seed {SEED}.\n\n"
        + "\n".join(lines)
        + f"\n\nMade by {made_by()}.\n"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "data.md", text)
    print(text)


if __name__ == "__main__":
    main()
