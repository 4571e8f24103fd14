"""What renewing a step size costs, and how good the step is.

    python -m benchmarks.renewal --out reports/benchmarks

Against a plain grid: 50 passes over the full tensor, quantizing it (divided, rounded, clipped, scaled back) and taking
mean |Q(x) − x|^2.4, with steps in equal distances up to max/q_max; and against the same in the published code's form,
which rounds as a straight-through sum and carries a zero point. Time: a million elements, all take turns in every
round, with one of torch's threads, as small networks are trained with, and with all of them. Loss: of both steps on the
full tensor in float64, over distributions × bit widths × signed and unsigned grids. In a network: the steps of all
weights and spikes of ResNet-18-CIFAR (batch 32, two time steps) renewed at once, in units of one allocation step of
`benchmarks.step`, in turns as well.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.provenance import made_by
from benchmarks.step import make_step
from bitsearch.files import write_whole
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.learnable import quantize
from bitsearch.models import make_network
from bitsearch.plan import UniformBits
from bitsearch.quant.renewal import EXPONENT, renew_step
from bitsearch.quant.uniform import SMALLEST_STEP, q_max

SEED = 0
CANDIDATES = 50
BITS = range(1, 9)
BATCH = 32


def draw(name: str, elements: int, generator: torch.Generator) -> Tensor:
    """``elements`` float32 numbers of a distribution."""
    normal = torch.randn(elements, generator=generator)
    if name == "normal":
        return normal
    if name == "half-normal":
        return normal.abs()
    if name == "sparse":
        return normal * (torch.rand(elements, generator=generator) < 0.1)
    if name == "heavy tails":
        # Student's t with three degrees of freedom.
        return normal / (torch.randn(3, elements, generator=generator).square().mean(0)).sqrt()
    assert name == "Laplace"
    uniform = torch.rand(elements, generator=generator) - 0.5
    return -uniform.sign() * torch.log1p(-2 * uniform.abs())


DISTRIBUTIONS = ("normal", "Laplace", "half-normal", "sparse", "heavy tails")


def loss(x: Tensor, step: Tensor, bits: Tensor, signed: bool) -> Tensor:
    """The loss mean |Q(x) − x|^2.4 of the full tensor, a scalar."""
    largest = q_max(bits, signed=signed)
    if signed and bits == 1:
        # One signed bit has no zero.
        codes = torch.where(x < 0, -1.0, 1.0)
    else:
        codes = (x / step).round().clamp(-largest if signed else 0 * largest, largest)
    return (codes * step - x).abs().pow(EXPONENT).mean()


def published_loss(x: Tensor, step: Tensor, bits: Tensor, signed: bool) -> Tensor:
    """:func:`loss` with the passes over the tensor that the published code makes (Yao et al. 2025)."""
    largest, zero = q_max(bits, signed=signed), 0
    scaled = x / step
    rounded = (scaled.round() - scaled).detach() + scaled
    codes = (rounded - zero).clamp(-largest if signed else 0 * largest, largest)
    return ((codes + zero) * step - x).abs().pow(EXPONENT).mean()


def grid(x: Tensor, bits: Tensor, signed: bool, tried: Callable[..., Tensor] = loss) -> Tensor:
    """The best of 50 steps in equal distances, each tried on the full tensor."""
    top = x.abs().max() if signed else x.max()
    largest = q_max(bits, signed=signed)
    steps = (top * torch.arange(1, CANDIDATES + 1) / CANDIDATES / largest).clamp_min(SMALLEST_STEP)
    return steps[torch.stack([tried(x, step, bits, signed) for step in steps]).argmin()]


def in_turns(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every task in every round, after one round of warming up."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def times(elements: int, rounds: int) -> list[str]:
    """Rows: seconds of all three, and their ratios."""
    x = draw("normal", elements, torch.Generator().manual_seed(SEED))
    rows, most = [], torch.get_num_threads()
    for threads in sorted({1, most}):
        torch.set_num_threads(threads)
        for bits, signed in ((4, True), (8, True), (4, False), (8, False)):
            given = x, torch.tensor(float(bits)), signed
            seconds = in_turns(
                {
                    "ours": lambda given=given: renew_step(given[0], given[1], signed=given[2]),  # type: ignore[misc]
                    "plain": lambda given=given: grid(*given),  # type: ignore[misc]
                    "published": lambda given=given: grid(*given, tried=published_loss),  # type: ignore[misc]
                },
                rounds,
            )
            median = {name: 1e3 * statistics.median(found) for name, found in seconds.items()}
            kind = "signed" if signed else "unsigned"
            rows.append(
                f"| {threads} | {bits} bits, {kind} | {median['ours']:.1f} | {median['plain']:.0f} | "
                f"{times_as_long(seconds, 'plain')} | {median['published']:.0f} | "
                f"{times_as_long(seconds, 'published')} |"
            )
    torch.set_num_threads(most)
    return rows


def times_as_long(seconds: dict[str, list[float]], name: str) -> str:
    """Median and range of the ratios of every round to ours."""
    ratios = [other / ours for ours, other in zip(seconds["ours"], seconds[name], strict=True)]
    return f"{statistics.median(ratios):.0f} ({min(ratios):.0f} to {max(ratios):.0f})"


def losses(elements: int) -> dict[str, list[float]]:
    """The histogram's loss over the grid's, for every case of a distribution."""
    generator = torch.Generator().manual_seed(SEED)
    ratios: dict[str, list[float]] = {}
    for name in DISTRIBUTIONS:
        x = draw(name, elements, generator)
        for bits in BITS:
            for signed in (True, False):
                values, width = x if signed else x.clamp_min(0), torch.tensor(float(bits))
                found = renew_step(values, width, signed=signed), grid(values, width, signed)
                ours, others = (float(loss(values.double(), step.double(), width.double(), signed)) for step in found)
                ratios.setdefault(name, []).append(ours / others)
        print(name, max(ratios[name]), file=sys.stderr, flush=True)
    return ratios


def whole_network(network: str, batch: int, rounds: int) -> tuple[int, float, float, list[float]]:
    """(layers, seconds of renewing them all, seconds of an allocation step, ratios of every round)."""
    torch.manual_seed(SEED)
    images = torch.randn(batch, 3, 32, 32)
    start = UniformBits(weight_bits=4, spike_bits=4, time_steps=2)
    float_network = make_network(network, {}, input_shape=(3, 32, 32), classes=10)
    learnable = quantize(float_network, images[:2], start=start).train()
    inputs: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, given, name=name: inputs.update({name: given[0].detach()}))
        for name, layer in learnable.layers.items()
    ]
    learnable(images)
    for hook in hooks:
        hook.remove()

    def renew() -> None:
        for name, layer in learnable.layers.items():
            mark(layer)
            layer._renew(inputs[name])

    seconds = in_turns({"renewal": renew, "step": make_step("A, T = 2", network, {}, batch)}, rounds)
    ratios = [one / other for one, other in zip(seconds["renewal"], seconds["step"], strict=True)]
    return len(inputs), statistics.median(seconds["renewal"]), statistics.median(seconds["step"]), ratios


@torch.no_grad()
def mark(layer: QuantizedLayer) -> None:
    """Make all steps of a layer look as if they had been set for other bits."""
    layer.weight_step_bits.add_(1)
    layer.spike_step_bits[: layer.active_steps] += 1
    layer.refresh_cache()


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--elements", type=int, default=10**6)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--network", default="resnet18_cifar")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    arguments = parser.parse_args()
    rows = times(arguments.elements, arguments.rounds)
    ratios = losses(arguments.elements)
    every = [ratio for found in ratios.values() for ratio in found]
    compared = [
        f"| {name} | {len(found)} | {statistics.median(found):.4f} | {max(found):.4f} |"
        for name, found in [*ratios.items(), ("all", every)]
    ]
    layers, renewal, step, shares = whole_network(arguments.network, arguments.batch, arguments.rounds)
    text = "\n".join(
        [
            "# Step-size renewal\n",
            f"Against a plain grid of {CANDIDATES} passes over the full tensor, and against the same in the published "
            f"code's form, which makes half as many passes again. {arguments.elements:,} elements, {arguments.rounds} "
            f"interleaved rounds, seed {SEED}. Machine: {platform.machine()}, torch {torch.__version__}.\n",
            "| threads | tensor | renewal, ms | plain grid, ms | grid/renewal, median (range) | published form, ms | "
            "form/renewal, median (range) |",
            "|---|---|---|---|---|---|---|",
            *rows,
            f"\nLoss mean \\|Q(x) − x\\|^{EXPONENT} of the step found, over the grid's; {BITS[0]} to {BITS[-1]} bits, "
            "signed and unsigned. Below 1: better than the grid.\n",
            "| distribution | cases | median | largest |",
            "|---|---|---|---|",
            *compared,
            f"\nAll {layers} layers of {arguments.network} at once, batch {arguments.batch}, weights and two steps of "
            f"spikes: {renewal:.3f} s, {statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f}) "
            f"allocation steps of {step:.3f} s.",
            f"\nMade by {made_by()}.\n",
        ]
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "renewal.md", text)
    print(text)


if __name__ == "__main__":
    main()
