"""What more spike bits are worth to a trained spiking network at fewer time steps, right after its conversion.

    python -m benchmarks.more_bits

The networks of ``benchmarks.conversion`` with a hard reset and batch norm, of 4 and 8 frames, converted to one time
step and to half of their own, with 1, 2, 3, 4 and 8 spike bits and nothing trained after. Every number of bits is
compared with the one before on the same images: of n images that one of the two alone gets right, the noise of their
difference is √n (McNemar 1947).
"""

import argparse
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from spikingjelly.activation_based import layer
from torch import Tensor

from benchmarks.conversion import Network, converted, predictions, train
from benchmarks.evidence import figures
from benchmarks.provenance import machine, made_by
from bitsearch.data import load_data
from bitsearch.plan import UniformBits

BITS = (1, 2, 3, 4, 8)
POOLS = {"largest": layer.MaxPool2d, "mean": layer.AvgPool2d}


def right(
    network: Network, frames: int, calibration: Tensor, images: Tensor, labels: Tensor, steps: int
) -> list[Tensor]:
    """Which images each of :data:`BITS` gets right."""
    answers = []
    for spike_bits in BITS:
        bits = UniformBits(weight_bits=8, spike_bits=spike_bits, time_steps=steps)
        answers.append(predictions(converted(network, calibration, bits=bits, frames=frames), images) == labels)
    return answers


def lost_and_won(answers: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Images that each number of bits gets wrong and the one before got right, and the other way round."""
    return [(int((one & ~two).sum()), int((two & ~one).sum())) for one, two in itertools.pairwise(answers)]


def noises(lost: int, won: int) -> float:
    """What is lost, in units of its noise; 0 where nothing changed."""
    return 0.0 if lost == won else (lost - won) / math.sqrt(lost + won)


def main() -> None:
    """Train, convert, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder for more_bits.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    splits = load_data("digits", {}, split_seed=0)
    images, labels = splits.validation[:]
    rows: list[list[object]] = []
    pairs: list[tuple[int, int]] = []
    for frames, kind, pool in itertools.product((4, 8), ("IF", "LIF", "PLIF"), POOLS):
        answers: dict[int, list[list[Tensor]]] = {1: [], frames // 2: []}
        for seed in range(arguments.seeds):
            torch.manual_seed(seed)
            network = Network(kind, "hard", POOLS[pool], normed=True, frames=frames)
            train(network, *splits.train[:], arguments.epochs)
            for steps, of_steps in answers.items():
                of_steps.append(right(network, frames, splits.train[:256][0], images, labels, steps))
        for steps, of_steps in answers.items():
            changes = [pair for each in of_steps for pair in lost_and_won(each)]
            accuracies = [100 * float(torch.stack(each).float().mean()) for each in zip(*of_steps, strict=True)]
            most = 100 * max(lost - won for lost, won in changes) / len(labels)
            noise = max(noises(lost, won) for lost, won in changes)
            shown = [f"{accuracy:.2f}" for accuracy in accuracies]
            rows.append([f"{kind}, {pool}, {frames} frames", steps, *shown, f"{most:.2f}", f"{noise:.1f}"])
            pairs += changes
    lost, won = (sum(column) for column in zip(*pairs, strict=True))
    worst = max(noises(*pair) for pair in pairs)
    heads = ["neurons, pooling", "time steps", *(f"{bits} bits" for bits in BITS), "most lost", "noises"]
    losing, winning = (sum(sign * (lost - won) > 0 for lost, won in pairs) for sign in (1, -1))
    text = (
        "# What more spike bits are worth before anything is trained\n\n"
        "Networks with a hard reset, converted to fewer time steps than they have frames: accuracy in percent of "
        f"{len(labels)} validation images, means over {arguments.seeds} seeds, by spike bits. The last two columns are "
        "the most that a number of bits lost to the one before in any of them, in points, and in units of the noise of "
        f"that difference.\n\n{figures.table(heads, rows)}\n\n"
        f"Of {len(pairs)} steps to more bits, all networks together, {losing} lose images and {winning} win some: "
        f"{lost} images lost, {won} won. None loses more than {worst:.1f} times the noise of its images. "
        f"Machine: {machine()}.\n\nMade by {made_by()}.\n"
    )
    print(text)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "more_bits.md").write_text(text)


if __name__ == "__main__":
    main()
