"""Allocation steps at ImageNet's size, on two processes of a CPU.

    python -m benchmarks.scale --out reports/benchmarks

SEW-ResNet-34 with ReLUs, synthetic images [3, 224, 224], 1,000 classes, through the trainer that every run uses:
forward, budget loss, backward, gradients averaged over the processes, optimizer. First 8 images a process, which also
shows what a whole batch of 64 would take; then 64, whole if memory allows it and in micro batches of 8 if not; then the
same in bfloat16, for which a CPU without instructions for bfloat16 takes ten minutes a step.
Memory is the larger process's peak above what it held before the first step.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from benchmarks.provenance import made_by
from bitsearch.allocation.learnable import LearnableNetwork
from bitsearch.data import Splits
from bitsearch.files import write_whole
from bitsearch.learnable import quantize
from bitsearch.models import make_network
from bitsearch.train.fabric import make_fabric
from bitsearch.train.loop import Callback, train
from bitsearch.train.session import TrainingSession
from bitsearch.training import Precision, Training

PROCESSES, CLASSES, SHAPE = 2, 1000, (3, 224, 224)
MICRO_BATCH = 8
SPARE = 0.6
"""Share of the memory that is free now which a batch may take: others compute here too."""


class Meter(Callback):
    """The budget's penalty, and when every step began."""

    def __init__(self, network: LearnableNetwork) -> None:
        self.network, self.starts = network, list[float]()

    def before_batch(self, *parts: Tensor, targets: Sequence[Tensor] = ()) -> None:
        """Note the time."""
        self.starts.append(time.perf_counter())

    def penalty(self) -> Tensor:
        """Of a quarter of the baseline."""
        return self.network.penalty("4x", steps=1000)


def measure(precision: Precision, batch: int, micro_batch: int | None, steps: int, out: Path) -> None:
    """One process's part: a few steps, their seconds and the peak memory into a file."""
    fabric = make_fabric(torch.device("cpu"), precision)
    torch.manual_seed(0)
    network = quantize(make_network("sew_resnet34", {}, input_shape=SHAPE, classes=CLASSES), torch.randn(1, *SHAPE))
    samples = TensorDataset(torch.randn(batch, *SHAPE), torch.randint(CLASSES, (batch,)))
    splits = Splits(samples, samples, samples, SHAPE, CLASSES)
    training = Training(batch_size=batch, micro_batch=micro_batch, precision=precision)
    # Linux: 5 resets the peak to what is held now, so that the imports' own peak does not count.
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    idle, meter = resident_peak(), Meter(network)
    # An epoch a step; latents are trained too, at a rate of zero, so that every step has the same bits.
    rates = {"bits_learning_rate": 0.0, "time_learning_rate": 0.0}
    session = TrainingSession(splits, training, fabric=fabric)
    train(network, session, epochs=steps, seed=0, phase="", callbacks=[meter], latent_rates=rates)
    times = [*meter.starts, time.perf_counter()]
    found = {"seconds": [b - a for a, b in itertools.pairwise(times)], "bytes": resident_peak() - idle}
    peaks = fabric.all_gather(torch.tensor(found["bytes"])).max()
    if fabric.is_global_zero:
        out.write_text(json.dumps(found | {"bytes": int(peaks)}), encoding="utf-8")


def resident_peak() -> int:
    """Largest resident memory so far, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def has_bfloat16() -> bool:
    """Whether the CPU computes with bfloat16 itself."""
    return "_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")


def available() -> int:
    """Bytes of memory that are free on this machine."""
    status = Path("/proc/meminfo").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("MemAvailable")).split()[1]) * 1024


def launched(
    precision: Precision, batch: int, micro_batch: int | None, steps: int, seconds: float
) -> dict[str, object] | None:
    """What :func:`measure` found in the processes of ``torchrun``; None if they took too long."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "found.json")
        arguments = ["--measure", precision, str(batch), str(micro_batch or 0), str(steps), str(out)]
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
        environment = os.environ | {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // PROCESSES))}
        with subprocess.Popen([*launcher, "-m", "benchmarks.scale", *arguments], env=environment) as running:
            try:
                running.wait(seconds)
            except subprocess.TimeoutExpired:
                # torchrun ends its processes when it is asked to end itself.
                running.terminate()
                return None
        if running.returncode:
            raise SystemExit(f"a process of the measurement ended with {running.returncode}")
        found: dict[str, object] = json.loads(out.read_text(encoding="utf-8"))
        return found


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2400.0, help="for everything")
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        batch, micro_batch, steps = map(int, arguments.measure[1:4])
        measure(arguments.measure[0], batch, micro_batch or None, steps, Path(arguments.measure[4]))
        return
    end = time.monotonic() + arguments.seconds
    small = PROCESSES * MICRO_BATCH
    lines = [
        "| precision | batch | images a process at once | step, s | peak memory a process, GiB |",
        "|---" * 5 + "|",
    ]

    def add(precision: Precision, batch: int, micro_batch: int | None, steps: int) -> float:
        found = launched(precision, batch, micro_batch, steps, max(1.0, end - time.monotonic()))
        what = f"| {precision} | {batch} | {micro_batch or batch // PROCESSES}"
        if found is None:
            lines.append(f"{what} | not done in time | |")
            return 0.0
        seconds, peak = found["seconds"][-1], found["bytes"] / 2**30  # type: ignore[index, operator]
        lines.append(f"{what} | {seconds:.1f} | {peak:.2f} |")
        print(lines[-1], file=sys.stderr, flush=True)
        return peak

    small = PROCESSES * MICRO_BATCH
    whole = add("float32", small, None, 2) * arguments.batch / small
    free = SPARE * available() / PROCESSES / 2**30
    fits = 0 < whole < free
    add("float32", arguments.batch, None if fits else MICRO_BATCH, 1)
    add("bfloat16", arguments.batch, None if fits else MICRO_BATCH, 2)
    text = (
        "# Allocation steps at ImageNet's size\n\n"
        f"SEW-ResNet-34 with ReLUs in {PROCESSES} processes, synthetic images 3×224×224, bits 4/4/2 under 4x, trained "
        f"as in any run. The second step, but in float32 of batch {arguments.batch} the first, which sets the step "
        "sizes too. "
        "Memory above the idle process. "
        f"A batch of {arguments.batch} at once would take about {whole:.1f} GiB a process, going by the first row; "
        f"{free:.1f} GiB were to be had{'.' if fits else ', so it ran in micro batches.'} "
        f"Machine: {platform.machine()}, {torch.get_num_threads()} cores, shared with other work, "
        f"{'with' if has_bfloat16() else 'without'} instructions for bfloat16; torch {torch.__version__}, seed 0.\n\n"
        + "\n".join(lines)
        + f"\n\nMade by {made_by()}.\n"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "scale.md", text)
    print(text)


if __name__ == "__main__":
    main()
