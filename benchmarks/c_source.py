"""How long a sample takes in the C of a network, beside the float network that it stands for.

    python -m benchmarks.c_source --out reports/benchmarks

The C is compiled with ``-O2`` and runs a batch sample by sample, as a device does. So do two float32 networks in torch,
on one thread: the one that the C stands for, with the same neurons, bits and time steps, and the one before its
quantization, which has neither. Weights are random, and a few batches have set steps and batch norms. All run in turns,
processor time is what counts, and ratios are medians over the rounds, in brackets the range. First the outputs of the C
are compared with the integer replay's.
"""

import argparse
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.deploy import NETWORKS, PLANS, prepared
from benchmarks.provenance import made_by
from bitsearch import pack, read
from bitsearch.deploy.formats.c.compiled import compiled, compiler
from bitsearch.deploy.formats.c.source import sources
from bitsearch.files import write_whole
from bitsearch.plan import UniformBits

SAMPLES = {"digits_cnn": 512, "resnet20": 16}
"""In a round of the C, so that the start of its process does not count."""


def child_seconds(run: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Of processor time, for one sample of a batch in processes of their own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(x)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) / len(x)


def seconds(network: torch.nn.Module, x: Tensor) -> float:
    """Of processor time, for one sample of a batch, one after the other."""
    start = time.process_time()
    for sample in x.split(1):
        network(sample)
    return (time.process_time() - start) / len(x)


def rows(rounds: int) -> list[str]:
    """A row a network and plan."""
    lines = [
        "| network | bits w/s/T | constants, bytes | static memory, bytes | C, ms a sample | × float network | "
        "× before quantization, T = 1 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (shape, _) in NETWORKS.items():
        for text in PLANS:
            weight_bits, spike_bits, time_steps = map(int, text.split("/"))
            bits = UniformBits(weight_bits=weight_bits, spike_bits=spike_bits, time_steps=time_steps)
            quantized, full, inputs = prepared(name, shape, 16, bits)
            with tempfile.TemporaryDirectory() as folder:
                pack(quantized, inputs, Path(folder, "packed"))
                packed = read(Path(folder, "packed"))
            source, many = sources(packed), inputs.repeat(SAMPLES[name] // 16, 1, 1, 1)
            with compiled(packed) as run, torch.inference_mode():
                assert torch.equal(run(inputs), packed.replay()(inputs))
                times = [
                    (child_seconds(run, many), seconds(quantized, inputs), seconds(full, inputs)) for _ in range(rounds)
                ]
            cells = []
            for other in (1, 2):
                ratios = [one[0] / one[other] for one in times]
                cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")
            milliseconds = statistics.median(one[0] for one in times) * 1000
            lines.append(
                f"| {name} | {text} | {source.constant_bytes} | {source.memory_bytes} | {milliseconds:.2f} | "
                f"{' | '.join(cells)} |"
            )
    return lines


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = "\n".join(rows(arguments.rounds))
    text = (
        f"# A sample in C\n\n{arguments.rounds} rounds; medians (least–most). One sample at a time: {compiler()} -O2, "
        f"and torch {torch.__version__} with one thread. Machine: {platform.machine()}, {os.cpu_count()} cores, load "
        f"average {os.getloadavg()[0]:.1f}.\n\n{table}\n\nMade by {made_by()}.\n"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "c_source.md", text)
    print(text)


if __name__ == "__main__":
    main()
