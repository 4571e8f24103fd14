"""What measuring sensitivities costs, in epochs of the same network.

    python -m benchmarks.sensitivity --out reports/benchmarks

A network of 50 convolutions with batch norm, on random images: sensitivities of every layer at every width, on as many
samples as the command takes by itself, once as it is and once with every forward pass computed from the start. An
epoch is that of the network in full precision. Time grows with the images, the samples and the changes that are
measured, so that a part of each is timed; it is processor time of one thread, since other work may share the machine.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.evidence.fronts import spread
from benchmarks.provenance import machine, made_by
from bitsearch.allocation.sensitivity import measure, replay
from bitsearch.allocation.sensitivity.measure import (
    finest_bits,
    measure_sensitivities,
    sample_count,
    settings_of,
)
from bitsearch.data import Splits
from bitsearch.files import write_whole
from bitsearch.learnable import quantize
from bitsearch.train.loop import train
from bitsearch.train.session import TrainingSession
from bitsearch.train.tasks import CLASSIFICATION
from bitsearch.training import Training

SIZE, CLASSES, BATCH = 16, 10, 32
TIMED = 256
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
    start = time.process_time()
    train(net, session, epochs=1, seed=0, phase="timed")
    return (time.process_time() - start) * count / TIMED


@contextmanager
def from_the_start() -> Iterator[None]:
    """Inside, no pass is replayed."""
    with mock.patch.object(replay, "_is_stateless", return_value=False):
        yield


@contextmanager
def every(share: int) -> Iterator[None]:
    """Inside, one in so many changes is measured, evenly spread over layers and widths."""
    with mock.patch.object(measure, "settings_of", lambda network: settings_of(network)[::share]):
        yield


def sensitivity_seconds(net: nn.Module) -> float:
    """Of one measurement on a batch."""
    examples = images(BATCH).tensors[0]
    rules = quantize(net, examples).rules
    quantized = quantize(net, examples, start=finest_bits(rules))
    start = time.process_time()
    measure_sensitivities(quantized, images(BATCH), CLASSIFICATION, count=BATCH, batch_size=BATCH)
    return time.process_time() - start


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=50)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--images", type=int, default=50_000, help="of the training split")
    parser.add_argument("--share", type=int, default=8, help="one change in so many is measured")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder for sensitivity.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    net = network(arguments.layers, arguments.width)
    examples = images(BATCH).tensors[0]
    net.eval()
    finest = quantize(net, examples, start=finest_bits(quantize(net, examples).rules))
    settings, steps = len(settings_of(finest)), max(plan.time_steps for plan in finest.layer_plans.values())
    count = sample_count(arguments.images, settings, steps)
    grown = arguments.share * count / BATCH
    epoch_seconds(net, TIMED)  # warms up
    rows = []
    for _ in range(arguments.repeats):
        epoch = epoch_seconds(net.train(), arguments.images)
        with every(arguments.share):
            replayed = grown * sensitivity_seconds(net.eval())
            with from_the_start():
                whole = grown * sensitivity_seconds(net)
        rows.append((epoch, replayed, replayed / epoch, whole, whole / epoch))
    epoch, replayed, ratio, whole, whole_ratio = map(figures_of, zip(*rows, strict=True))
    text = f"""# What measuring sensitivities costs

{arguments.layers} layers of {arguments.width} channels on {arguments.images:,} images of {SIZE}×{SIZE}: {settings}
changes of single numbers, on {count} samples each. Processor time of one thread, epochs and measurements by turns, mean
± standard deviation of {arguments.repeats}: of {TIMED} images, of {BATCH} samples and of one change in
{arguments.share}, scaled to all of them.

| | seconds | epochs in full precision |
|---|---|---|
| an epoch in full precision | {epoch} | 1 |
| sensitivities | {replayed} | {ratio} |
| the same, every pass from the start | {whole} | {whole_ratio} |

{made_by()}; {machine()}.
"""
    print(text)
    if arguments.out is not None:
        write_whole(arguments.out / "sensitivity.md", text)


def figures_of(values: Sequence[float]) -> str:
    """Mean ± standard deviation."""
    return spread(values, digits=0 if min(values) > 20 else 2)


if __name__ == "__main__":
    main()
