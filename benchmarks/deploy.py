"""How fast weights are packed and unpacked, and integer replay beside the float network it stands for.

    python -m benchmarks.deploy --out reports/benchmarks

Packing is measured on random weights of every bit width, in megabytes of packed data a second. Replay runs a batch of
random inputs through networks with random weights, whose steps and batch norms a few batches have set. It is compared
with the float network that it stands for, the same neurons, bits and time steps in float32; and with the network before
its quantization, which has neither neurons nor time steps: a float32 multiplication and addition is one instruction,
one of int32 two, slower ones. All run on one thread, in turns, and processor time is what counts; ratios are medians
over the rounds, in brackets the range.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.provenance import made_by
from bitsearch.choices import FirstLayer
from bitsearch.cost import CostModel, trace
from bitsearch.deploy.integer.bitpacking import pack_bits, unpack_bits
from bitsearch.deploy.integer.interpreter import Replay
from bitsearch.deploy.lower.lowering import lower
from bitsearch.files import write_whole
from bitsearch.layers import convert
from bitsearch.models import make_network
from bitsearch.plan import UniformBits

NETWORKS = {"digits_cnn": ((1, 8, 8), 64), "resnet20": ((3, 32, 32), 32)}
"""Input shape and batch size."""
PLANS = ("8/8/1", "4/4/1", "4/4/2", "3/2/2", "2/1/4")


def seconds(task: Callable[[object], object], given: object) -> float:
    """Of processor time for one call: on one thread the time it takes, whatever else the machine does."""
    start = time.process_time()
    task(given)
    return time.process_time() - start


def packing(rounds: int, megabytes: int) -> list[str]:
    """A row a bit width."""
    lines = ["| bits | packing, MB/s | unpacking, MB/s |", "|---|---|---|"]
    for bits in range(1, 9):
        count = megabytes * 8_000_000 // bits
        values = np.random.default_rng(0).integers(0, 2**bits, count, dtype=np.uint8)
        packed = pack_bits(values, bits)
        size = packed.size / 1e6
        tasks = ((partial(pack_bits, bits=bits), values), (partial(unpack_bits, bits=bits, count=count), packed))
        rates = [[size / seconds(task, given) for _ in range(rounds)] for task, given in tasks]  # type: ignore[arg-type]
        cells = [f"{statistics.median(rate):.0f} ({min(rate):.0f}–{max(rate):.0f})" for rate in rates]
        lines.append(f"| {bits} | {' | '.join(cells)} |")
    return lines


def replay(rounds: int) -> list[str]:
    """A row a network and plan."""
    lines = [
        "| network | bits w/s/T | replay, ms a sample | × float network | × before quantization, T = 1 |",
        "|---|---|---|---|---|",
    ]
    for name, (shape, batch) in NETWORKS.items():
        for text in PLANS:
            weight_bits, spike_bits, time_steps = map(int, text.split("/"))
            bits = UniformBits(weight_bits=weight_bits, spike_bits=spike_bits, time_steps=time_steps)
            quantized, full, inputs = prepared(name, shape, batch, bits)
            lowered = lower(quantized, inputs)
            runs = (Replay(lowered.program, lowered.numbers), quantized, full)
            with torch.inference_mode():
                for run in runs:
                    run(inputs)
                times = [[seconds(run, inputs) for run in runs] for _ in range(rounds)]
            own = statistics.median(time[0] for time in times) / batch * 1000
            cells = []
            for other in (1, 2):
                ratios = [time[0] / time[other] for time in times]
                cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")
            lines.append(f"| {name} | {text} | {own:.2f} | {' | '.join(cells)} |")
    return lines


def prepared(
    name: str, shape: tuple[int, ...], batch: int, bits: UniformBits
) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """(quantized network, the full-precision one, a batch), steps and batch norms set."""
    torch.manual_seed(0)
    inputs = torch.randn(batch, *shape)
    full = make_network(name, {}, input_shape=shape, classes=10)
    model = CostModel(trace(full, inputs))
    quantized = convert(full, model.uniform(bits, FirstLayer()))
    with torch.no_grad():
        for network in (full, quantized):
            network.train()
            for _ in range(3):
                network(inputs)
            network.eval()
    return quantized, full, inputs


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--megabytes", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tables = [
        "## Packing\n",
        *packing(arguments.rounds, arguments.megabytes),
        "\n## Integer replay\n",
        *replay(arguments.rounds),
    ]
    text = (
        f"# The price of packed integers\n\n{arguments.rounds} rounds; medians (least–most). Machine: "
        f"{platform.machine()}, one of torch's threads, torch {torch.__version__}, "
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}.\n\n"
        + "\n".join(tables)
        + f"\n\nMade by {made_by()}.\n"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "deploy.md", text)
    print(text)


if __name__ == "__main__":
    main()
