"""Trained spiking networks right after their conversion, at their own setting: 8-bit weights, one bit, their T.

    python -m benchmarks.conversion

Two convolutions and a classifier on digits, with IF or LIF neurons, hard or soft reset, largest or mean pooling, with
and without batch norm. Beside each converted network stands the network itself with the weights of the converted one,
8 bits wide, and with its rounded images too: what is left between those and the converted network, conversion adds.
"""

import argparse
import copy
import itertools
import statistics
from pathlib import Path

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

import bitsearch
from benchmarks.evidence import figures
from benchmarks.provenance import machine, made_by
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.data import Splits, load_data
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.plan import UniformBits
from bitsearch.quant.uniform import quantize

T = 4
FIRST = FirstLayer(weight_bits=8, spike_bits=8)
OWN = UniformBits(weight_bits=8, spike_bits=1, time_steps=T)


def node(kind: str, reset: str) -> nn.Module:
    """A neuron of SpikingJelly's."""
    v_reset = None if reset == "soft" else 0.0
    if kind == "IF":
        return neuron.IFNode(v_reset=v_reset, surrogate_function=surrogate.ATan())  # type: ignore[no-any-return]
    if kind == "PLIF":
        return neuron.ParametricLIFNode(init_tau=2.0, v_reset=v_reset, surrogate_function=surrogate.ATan())  # type: ignore[no-any-return]
    return neuron.LIFNode(tau=2.0, v_reset=v_reset, surrogate_function=surrogate.ATan())  # type: ignore[no-any-return]


class Network(nn.Module):
    """Two convolutions that repeat an image for as many frames."""

    def __init__(self, kind: str, reset: str, pool: type[nn.Module], normed: bool, frames: int = T) -> None:
        super().__init__()
        self.frames = frames
        parts: list[nn.Module] = []
        for inputs, outputs in ((1, 16), (16, 24)):
            norm = [layer.BatchNorm2d(outputs)] if normed else []
            parts += [layer.Conv2d(inputs, outputs, 3, padding=1), *norm, node(kind, reset), pool(2)]
        self.net = nn.Sequential(*parts, layer.Flatten(), layer.Linear(24 * 4, 10))
        functional.set_step_mode(self.net, "m")

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[N, 10]``."""
        return self.net(x.unsqueeze(0).repeat(self.frames, 1, 1, 1, 1)).mean(0)  # type: ignore[no-any-return]


def train(network: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """In place, with Adam."""
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(epochs):
        for part in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[part]), labels[part]).backward()
            optimizer.step()
            functional.reset_net(network)
    network.eval()


@torch.no_grad()
def predictions(network: nn.Module, images: Tensor) -> Tensor:
    """Classes."""
    result = network(images)
    functional.reset_net(network)
    return result.argmax(1)  # type: ignore[no-any-return]


@torch.no_grad()
def converted(
    network: nn.Module, images: Tensor, granularity: str = "layer", bits: UniformBits = OWN, frames: int = T
) -> nn.Module:
    """With its steps set by ``images``; at the network's own setting by default."""
    quantized = bitsearch.quantize(
        network,
        images,
        start=bits,
        baseline=bits,
        choices=Choices(time_steps=Span(low=1, high=frames)),
        first_layer=FIRST,
        granularity=granularity,
    ).eval()
    quantized(images)
    return quantized


@torch.no_grad()
def with_rounded(network: nn.Module, quantized: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor]:
    """The network itself with the converted one's weights, and its images."""
    rounded = copy.deepcopy(network)
    layers = {
        path.removeprefix("network."): part
        for path, part in quantized.named_modules()
        if isinstance(part, QuantizedLayer)
    }
    for path, part in layers.items():
        rounded.get_submodule(path).weight.copy_(part.quantized_weight())  # type: ignore[operator, union-attr]
    first = next(iter(layers.values()))
    return rounded, quantize(images, first.spike_step[0], first.spike_bits[0], signed=first.signed_input)


def measured(network: nn.Module, splits: Splits, granularity: str) -> tuple[list[float], int]:
    """Accuracies in percent: the network's, with rounded weights, rounded images too, converted; answers that differ.

    These are counted between the last two.
    """
    images, labels = splits.validation[:]
    quantized = converted(network, splits.train[:256][0], granularity)
    rounded, rounded_images = with_rounded(network, quantized, images)
    answers = [
        predictions(network, images),
        predictions(rounded, images),
        predictions(rounded, rounded_images),
        predictions(quantized, images),
    ]
    accuracies = [100 * float((each == labels).float().mean()) for each in answers]
    return accuracies, int((answers[3] != answers[2]).sum())


def losses(accuracies: list[list[float]]) -> list[str]:
    """Of each column behind the first against the first."""
    first, *others = zip(*accuracies, strict=True)
    lost = [[before - after for before, after in zip(first, column, strict=True)] for column in others]
    return [f"{statistics.mean(column):.2f}, at most {max(column):.2f}" for column in lost]


def main() -> None:
    """Train, convert, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--granularity", choices=("layer", "channel"), default="layer", help="of weight steps")
    parser.add_argument("--out", type=Path, help="folder for conversion.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    splits = load_data("digits", {}, split_seed=0)
    rows: list[list[object]] = []
    every: list[list[float]] = []
    pools = {"largest": layer.MaxPool2d, "mean": layer.AvgPool2d}
    for kind, reset, pool, norm in itertools.product(("IF", "LIF"), ("soft", "hard"), pools, ("", ", batch norm")):
        accuracies, others = [], 0
        for seed in range(arguments.seeds):
            torch.manual_seed(seed)
            network = Network(kind, reset, pools[pool], bool(norm))
            train(network, *splits.train[:], arguments.epochs)
            numbers, different = measured(network, splits, arguments.granularity)
            accuracies.append(numbers)
            others += different
        before = statistics.mean(numbers[0] for numbers in accuracies)
        rows.append([f"{kind}, {reset} reset, {pool}{norm}", f"{before:.2f}", *losses(accuracies), others])
        every += accuracies
    rows.append(["all", "", *losses(every), sum(int(str(row[-1])) for row in rows)])
    count = len(splits.validation)
    heads = ["neurons, pooling", "validation %", "loses with rounded weights", "rounded images too", "converted"]
    text = (
        "# What conversion costs a trained spiking network\n\n"
        f"At its own setting, w/s/T 8/1/{T}, with nothing trained after; points of validation accuracy, "
        f"{arguments.seeds} seeds, {count} images (one is {100 / count:.2f} points). The last column counts answers of "
        "the converted network that are not those of the network itself with the same weights and images. "
        f"Machine: {machine()}.\n\n"
        f"{figures.table([*heads, 'other answers'], rows)}\n\nMade by {made_by()}.\n"
    )
    print(text)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "conversion.md").write_text(text)


if __name__ == "__main__":
    main()
