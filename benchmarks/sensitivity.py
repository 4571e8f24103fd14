"""What measuring sensitivities costs, in epochs of the same network.

    python -m benchmarks.sensitivity --out reports/benchmarks

A network of 50 convolutions with batch norm, on random images: sensitivities of every layer at every width, on as many
samples as the command takes by itself, once as it is and once with every forward pass computed from the start. An
epoch is that of the network in full precision, timed on a part of the images.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.provenance import machine, made_by
from bitsearch.allocation.learnable import quantize
from bitsearch.allocation.sensitivity import replay
from bitsearch.allocation.sensitivity.measure import (
    finest_bits,
    measure_sensitivities,
    sample_count,
    settings_of,
)
from bitsearch.data import Splits
from bitsearch.files import write_whole
from bitsearch.train.loop import train
from bitsearch.train.session import TrainingSession
from bitsearch.train.tasks import CLASSIFICATION
from bitsearch.training import Training

SIZE, CLASSES, BATCH = 16, 10, 64
TIMED = 1024
"""Images that an epoch is timed on."""


def network(layers: int, width: int) -> nn.Module:
    """Convolutions of one width, with batch norm and ReLU, and a linear classifier."""
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for index in range(layers - 1):
        parts += [nn.Conv2d(width if index else 3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


def images(count: int) -> TensorDataset:
    """Random ones."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(count, 3, SIZE, SIZE, generator=generator)
    return TensorDataset(inputs, torch.randint(0, CLASSES, (count,), generator=generator))


def epoch_seconds(net: nn.Module, count: int) -> float:
    """Of an epoch of ``count`` images, as long as :data:`TIMED` of them take times their number."""
    few = Splits(images(TIMED), images(8), None, (3, SIZE, SIZE), CLASSES)
    session = TrainingSession(few, Training(batch_size=BATCH))
    train(net, session, epochs=1, seed=0, phase="warm")
    start = time.perf_counter()
    train(net, session, epochs=1, seed=0, phase="timed")
    return (time.perf_counter() - start) * count / TIMED


@contextmanager
def from_the_start() -> Iterator[None]:
    """Inside, no pass is replayed."""
    with mock.patch.object(replay, "_is_stateless", return_value=False):
        yield


def sensitivity_seconds(net: nn.Module, count: int) -> float:
    """Of one measurement on ``count`` samples."""
    examples = images(BATCH).tensors[0]
    rules = quantize(net, examples).rules
    quantized = quantize(net, examples, start=finest_bits(rules))
    start = time.perf_counter()
    measure_sensitivities(quantized, images(count), CLASSIFICATION, count=count, batch_size=BATCH)
    return time.perf_counter() - start


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=50)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--images", type=int, default=9000, help="of the training split")
    parser.add_argument("--out", type=Path, help="folder for sensitivity.md")
    arguments = parser.parse_args()
    net = network(arguments.layers, arguments.width)
    epoch = epoch_seconds(net, arguments.images)
    net.eval()
    examples = images(BATCH).tensors[0]
    settings = len(settings_of(quantize(net, examples, start=finest_bits(quantize(net, examples).rules))))
    count = sample_count(arguments.images, settings)
    seconds = sensitivity_seconds(net, count)
    with from_the_start():
        whole = sensitivity_seconds(net, count)
    text = f"""# What measuring sensitivities costs

{arguments.layers} layers of {arguments.width} channels on {arguments.images:,} images of {SIZE}×{SIZE}: {settings}
changes of single numbers, on {count} samples each.

| | seconds | epochs in full precision |
|---|---|---|
| an epoch in full precision | {epoch:.0f} | 1 |
| sensitivities | {seconds:.0f} | {seconds / epoch:.2f} |
| the same, every pass from the start | {whole:.0f} | {whole / epoch:.2f} |

{made_by()}; {machine()}.
"""
    print(text)
    if arguments.out is not None:
        write_whole(arguments.out / "sensitivity.md", text)


if __name__ == "__main__":
    main()
