"""What learning an allocation costs beside the training itself.

    python -m benchmarks.overhead --out reports/benchmarks

Probes: epochs of the search phase with the curvature signal (estimator "curvature", a probe every `probe_every` steps,
the prediction of what a bit more or less would do, and its gradient) over epochs without it. Both have the budget's
penalty and keep their bits (latents learn at a rate of zero), so that they compute the same. They take turns.

Outer loop: a whole default run on digits, with timers around everything that is not training or evaluation. Each second
is counted once, for the innermost of them.
"""

import argparse
import functools
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any
from unittest import mock

import torch
from optuna.storages import RDBStorage
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import bitsearch
from benchmarks.provenance import made_by
from bitsearch.allocation.learnable import LearnableNetwork
from bitsearch.allocation.signals.latent_gradient import LatentGradientCallback
from bitsearch.data import Splits
from bitsearch.files import write_whole
from bitsearch.learnable import quantize
from bitsearch.models import make_network
from bitsearch.space import SearchSpace
from bitsearch.train.loop import Callback, train
from bitsearch.train.session import TrainingSession
from bitsearch.train.task import load_task

SEED = 0
BUDGET = "4x"
RANDOM_IMAGES = 640
STILL = {"bits_learning_rate": 0.0, "time_learning_rate": 0.0}

CHECKPOINTS, PROJECTION = "a checkpoint after every epoch", "projection onto the budget, with its predicted losses"
TIMED = {
    "study": (
        "bitsearch.study.opening:open_study",
        "bitsearch.study.phases:reset_interrupted",
        "bitsearch.study.trial_loop:check_causes",
        "bitsearch.study.trial_roles:TrialSchedule.assignment",
        "bitsearch.study.objective:suggest",
        "optuna.study:Study.get_trials",
        "optuna.study:Study.ask",
        "optuna.study._optimize:_tell_with_warning",
    ),
    "storage": tuple(
        f"optuna.storages:RDBStorage.{name}"
        for name, member in vars(RDBStorage).items()
        if name.startswith(("create_", "get_", "set_", "check_")) and isinstance(member, FunctionType)
    ),
    "geometry and costs": (
        "bitsearch.train.task:trace",
        "bitsearch.study.phases:plan_study",
        "bitsearch.cost.model:CostModel.costs",
    ),
    "plans, weights and tables": (
        "bitsearch.runs.folder:RunFolder.write_plan",
        "bitsearch.runs.folder:RunFolder.write_settings",
        "bitsearch.runs.folder:RunFolder.append_log",
        "bitsearch.runs.folder:RunFolder.write_tables",
        "bitsearch.runs.folder:RunFolder.plans",
        "bitsearch.runs.record_trial:save_weights",
        "bitsearch.study.phases:save_weights",
        "bitsearch.study.phases:load_weights",
    ),
    "report": ("bitsearch.report:write_report",),
    CHECKPOINTS: (
        "bitsearch.train.checkpoint:Checkpoint.restore",
        "bitsearch.train.checkpoint:Checkpoint.keep",
    ),
    PROJECTION: ("bitsearch.allocation.methods.finish:project",),
}
"""What is not training or evaluation, by where it is looked up. The last two belong to the training of a trial, so that
it can go on after a crash and meets its budget; the others are the outer loop."""


class Penalty(Callback):
    """The budget's penalty."""

    def __init__(self, network: LearnableNetwork) -> None:
        self.network, self.budget = network, network.budget(BUDGET)

    def penalty(self) -> Tensor:
        """As in the search phase."""
        return self.network.penalty(self.budget, steps=1000)


def epochs(network: nn.Module, splits: Splits, space: SearchSpace, rounds: int) -> tuple[float, float, list[float]]:
    """(seconds of an epoch without probes, with them, ratios of every round)."""
    examples = torch.stack([splits.train[index][0] for index in range(space.training.batch_size)])
    tasks: dict[str, Callable[[int], None]] = {}
    for name in ("without", "with"):
        learnable = quantize(network, examples, choices=space.choices, start=space.allocation.start)
        callbacks: list[Callback] = [Penalty(learnable)]
        if name == "with":
            callbacks.append(LatentGradientCallback(learnable, space.allocation, SEED))
        tasks[name] = functools.partial(_epoch, learnable, splits, space, callbacks)
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task(number)
            # The first round sets the steps.
            if number:
                seconds[name].append(time.perf_counter() - start)
    ratios = [one / other for one, other in zip(seconds["with"], seconds["without"], strict=True)]
    return statistics.median(seconds["without"]), statistics.median(seconds["with"]), ratios


def _epoch(network: nn.Module, splits: Splits, space: SearchSpace, callbacks: list[Callback], number: int) -> None:
    train(
        network,
        TrainingSession(splits, space.training),
        epochs=1,
        seed=number,
        phase="",
        anneal=False,
        callbacks=callbacks,
        latent_rates=STILL,
    )


def digits(space: SearchSpace) -> tuple[nn.Module, Splits]:
    """The default space's network, untrained, and its data."""
    task = load_task(space, seed=SEED, device="cpu")
    return task.fresh_network(), task.splits


def thin_resnet(images: int) -> tuple[nn.Module, Splits]:
    """ResNet-20 with 8 channels, and random images for it."""
    torch.manual_seed(SEED)
    samples = TensorDataset(torch.randn(images, 3, 32, 32), torch.randint(10, (images,)))
    network = make_network("resnet20", {"width": 8}, input_shape=(3, 32, 32), classes=10)
    return network, Splits(samples, samples, samples, (3, 32, 32), 10)


class Stopwatch:
    """Seconds by category, those of an inner category not counted for the outer one; the main thread's only."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((*TIMED, "training and evaluation"), 0.0)
        self.stack = ["training and evaluation"]
        self.last = time.perf_counter()

    def _turn(self) -> None:
        now = time.perf_counter()
        self.seconds[self.stack[-1]] += now - self.last
        self.last = now

    def timed(self, category: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, its time counted for ``category``."""

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            # Optuna's heartbeat has a thread of its own.
            if threading.current_thread() is not threading.main_thread():
                return function(*arguments, **options)
            self._turn()
            self.stack.append(category)
            try:
                return function(*arguments, **options)
            finally:
                self._turn()
                self.stack.pop()

        return call

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, everything in :data:`TIMED` is timed."""
        with ExitStack() as stack:
            for category, places in TIMED.items():
                for place in places:
                    module, _, path = place.partition(":")
                    *parents, name = path.split(".")
                    owner = functools.reduce(getattr, parents, import_module(module))
                    stack.enter_context(mock.patch.object(owner, name, self.timed(category, getattr(owner, name))))
            self.last = time.perf_counter()
            yield
            self._turn()


def load_storage() -> float:
    """Seconds to load the modules of Optuna's storage, which it does when a process first opens a study."""
    start = time.perf_counter()
    for name in ("sqlalchemy.orm", "alembic.command", "optuna.storages._rdb.models"):
        import_module(name)
    return time.perf_counter() - start


def whole_run(trials: int | None) -> tuple[int, dict[str, float]]:
    """(trials, seconds by category) of a run of the default space, from nothing to the page."""
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder, watch.watching():
        result = bitsearch.search("digits", BUDGET, trials=trials, seed=SEED, device="cpu", out=Path(folder) / "run")
        bitsearch.report.write_report(result.folder)
        done = len(result.trials)
    return done, watch.seconds


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--images", type=int, default=RANDOM_IMAGES, help="random images for ResNet-20")
    parser.add_argument("--trials", type=int, default=None, help="the space's own number by default")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    arguments = parser.parse_args()
    space = SearchSpace.load("digits")
    rows = []
    for name, (network, splits) in {
        "digits, its own network": digits(space),
        f"ResNet-20, 8 channels, {arguments.images} random images": thin_resnet(arguments.images),
    }.items():
        without, with_probes, ratios = epochs(network, splits, space, arguments.rounds)
        rows.append(
            f"| {name} | {without:.2f} | {with_probes:.2f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
        print(rows[-1], file=sys.stderr, flush=True)
    loading = load_storage()
    trials, seconds = whole_run(arguments.trials)
    total = sum(seconds.values())
    shares = [f"| {name} | {spent:.2f} | {100 * spent / total:.2f} |" for name, spent in seconds.items()]
    outer = sum(spent for name, spent in seconds.items() if name in TIMED and name not in (CHECKPOINTS, PROJECTION))
    beside = outer + seconds[CHECKPOINTS] + seconds[PROJECTION]
    text = "\n".join(
        [
            "# What learning an allocation costs beside the training\n",
            f"Machine: {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
            f"seed {SEED}.\n",
            f"Curvature probes every {space.allocation.probe_every} steps of {space.training.batch_size}; epochs of "
            f"{arguments.rounds} interleaved rounds, bits kept at {space.allocation.start}.\n",
            "| network | epoch without, s | with probes, s | with/without, median (range) |",
            "|---|---|---|---|",
            *rows,
            f"\nA run of `digits` at {BUDGET} with {trials} trials, from nothing to its page; every second is counted "
            f"once. All modules are loaded before; those of Optuna's storage took {loading:.2f} s.\n",
            "| part | s | % |",
            "|---|---|---|",
            *shares,
            f"| **the outer loop: study, storage, geometry, plans, report** | **{outer:.2f}** | "
            f"**{100 * outer / total:.2f}** |",
            f"| with checkpoints and projection | {beside:.2f} | {100 * beside / total:.2f} |",
            f"| all | {total:.2f} | 100 |",
            f"\nMade by {made_by()}.\n",
        ]
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "overhead.md", text)
    print(text)


if __name__ == "__main__":
    main()
