"""What one allocation step costs, as a ratio to plain training of the same network.

    python -m benchmarks.step --out reports/benchmarks

F: float32 ReLU training. S: the same network with SpikingJelly's LIF neurons, two time steps. A: an allocation step at
4/4/2 (forward, budget loss, backward, optimizer), plain, with compiled quantizers, with operands recomputed in backward
besides, and at T = 4. All variants take turns in every round; the table shows medians of the rounds' ratios.

Peak memory: each variant alone in a process, above what that process held before its first step. It runs with
MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ at 65536, so that resident memory follows the tensors: by itself glibc
keeps freed blocks, and the same step varied by 40 % either way.
"""

import argparse
import copy
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn

from benchmarks.provenance import made_by
from bitsearch.files import write_whole
from bitsearch.learnable import quantize
from bitsearch.models import make_network
from bitsearch.plan import UniformBits
from bitsearch.quant.compilation import compiled_quantizers
from bitsearch.quant.recomputation import recomputed_operands

# Name, factory, its options, batch size.
NETWORKS = (
    ("ResNet-20, 16 channels", "resnet20", {}, 64),
    ("ResNet-20, 64 channels", "resnet20", {"width": 64}, 32),
    ("ResNet-18-CIFAR", "resnet18_cifar", {}, 32),
)
VARIANTS = ("F", "S, T = 2", "A, T = 2", "A compiled, T = 2", "A compiled, recompute, T = 2", "A compiled, T = 4")
MEMORY = ("F", "A, T = 2", "A recompute, T = 2")
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""glibc gives every block from this size on back at once."""
Step = Callable[[], None]


class Spiking(nn.Module):
    """``network`` with a LIF neuron for every ReLU, run step by step; logits averaged over time."""

    def __init__(self, network: nn.Module, time_steps: int) -> None:
        super().__init__()
        self.network, self.time_steps = copy.deepcopy(network), time_steps
        for module in list(self.network.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.ReLU):
                    setattr(module, name, neuron.LIFNode(surrogate_function=surrogate.ATan()))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, classes]``."""
        functional.reset_net(self.network)
        total: Tensor = sum(self.network(x) for _ in range(self.time_steps))  # type: ignore[assignment]
        return total / self.time_steps


def make_step(variant: str, factory: str, options: dict[str, int], batch: int) -> Step:
    """One training step of a variant, on its own copy of the network and the same random batch."""
    torch.manual_seed(0)
    network = make_network(factory, options, input_shape=(3, 32, 32), classes=10)
    images, labels = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    time_steps = 4 if variant.endswith("4") else 2
    penalty: Callable[[], Tensor | float] = lambda: 0.0  # noqa: E731
    if variant.startswith("A"):
        start = UniformBits(weight_bits=4, spike_bits=4, time_steps=time_steps)
        learnable = quantize(network, images[:2], start=start)
        # Latents are trained like everything else, but at a rate of zero, so that every round measures the same bits.
        rates = {"bits_learning_rate": 0.0, "time_learning_rate": 0.0}
        groups, network = learnable.parameter_groups(1e-3, **rates), learnable
        penalty = lambda: learnable.penalty("4x", steps=1000)  # noqa: E731
    else:
        network = Spiking(network, time_steps) if variant.startswith("S") else network
        groups = [{"params": list(network.parameters())}]
    optimizer = torch.optim.Adam(groups, lr=1e-3, fused=True)

    def step() -> None:
        with ExitStack() as stack:
            if "compiled" in variant:
                stack.enter_context(compiled_quantizers())
            if "recompute" in variant:
                stack.enter_context(recomputed_operands())
            loss = nn.functional.cross_entropy(network(images), labels) + penalty()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    network.train()
    return step


def times(options: tuple[str, dict[str, int], int], rounds: int) -> dict[str, list[float]]:
    """Seconds of every variant in every round, after two steps of warming up."""
    steps = {variant: make_step(variant, *options) for variant in VARIANTS}
    for step in steps.values():
        step()
        step()
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[variant].append(time.perf_counter() - start)
    return seconds


def peak_memory(variant: str, network: str) -> int:
    """Bytes above the idle process, in this process."""
    step = make_step(variant, *next(options for name, *options in NETWORKS if name == network))
    # Linux: 5 resets the peak to what is held now, so that the imports' own peak does not count.
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    idle = resident_peak()
    step()
    step()
    return resident_peak() - idle


def resident_peak() -> int:
    """Largest resident memory so far, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def memory_ratios(network: str) -> list[float]:
    """Peak memory of the allocation steps over that of plain training."""
    plain, *others = (
        int(
            subprocess.run(
                [sys.executable, "-m", "benchmarks.step", "--memory", variant, network],
                check=True,
                capture_output=True,
                text=True,
                env=os.environ | ALLOCATOR,
            ).stdout
        )
        for variant in MEMORY
    )
    return [other / plain for other in others]


def main() -> None:
    """Measure every network and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    parser.add_argument("--memory", nargs=2, metavar=("VARIANT", "NETWORK"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        print(peak_memory(*arguments.memory))
        return
    lines = [
        f"| network | F, s | {' | '.join(VARIANTS[1:])} | {' | '.join(f'memory, {name}' for name in MEMORY[1:])} |",
        "|---" * (len(VARIANTS) + len(MEMORY)) + "|",
    ]
    for name, *options in NETWORKS:
        seconds = times(tuple(options), arguments.rounds)  # type: ignore[arg-type]
        ratios = [
            statistics.median(a / f for a, f in zip(seconds[variant], seconds["F"], strict=True))
            for variant in VARIANTS[1:]
        ]
        ratios += memory_ratios(name)
        cells = [f"{statistics.median(seconds['F']):.3f}", *(f"{ratio:.2f}" for ratio in ratios)]
        lines.append(f"| {name}, batch {options[2]} | {' | '.join(cells)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    allocator = " and ".join(f"{name}={value}" for name, value in ALLOCATOR.items())
    text = (
        "# The price of an allocation step\n\nRatios to plain float32 training (F) of the same network, medians of "
        f"{arguments.rounds} interleaved rounds. Memory: the peak above the idle process, each variant alone in one, "
        f"with {allocator}, so that resident memory follows the tensors. Machine: {platform.machine()}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, seed 0.\n\n"
        + "\n".join(lines)
        + f"\n\nMade by {made_by()}.\n"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "step.md", text)
    print(text)


if __name__ == "__main__":
    main()
