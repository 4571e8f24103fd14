"""What `bitsearch allocate` costs, in epochs of the same network's training.

    python -m benchmarks.allocate --space cifar10_folder --set data_options.root=DIR --set data_options.limit=60 \
        --whole 45000,5000,10000 --out reports/benchmarks

The float network is trained for a few epochs; then plans for all budgets are made. Between any two plans some training
steps of the float network are timed, so that both share whatever else the machine does, and processor time of one
thread is what counts. An epoch is as many steps as the training split has batches. What an allocation does does not
depend on how many training samples there are, apart from measuring its plans on the validation and the test split:
--whole says how large the splits of the whole data set are, whose epoch is what a user compares with. Reconstructions
of fewer --iterations are scaled to as many as there are by default.
"""

import argparse
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.utils.data import Subset

from benchmarks.evidence import figures
from benchmarks.evidence.runs import Stage
from benchmarks.provenance import machine, made_by
from bitsearch.calibrate import ITERATIONS, calibration
from bitsearch.data import Splits
from bitsearch.data.splits import Samples
from bitsearch.files import write_whole
from bitsearch.post_training import allocation, within_budgets
from bitsearch.post_training.calibrator import Calibrator
from bitsearch.post_training.run import allocate
from bitsearch.post_training.solving import ScoredNetwork
from bitsearch.runs import test_split
from bitsearch.runs.progress import Progress
from bitsearch.space import SearchSpace
from bitsearch.train.loop import train
from bitsearch.train.session import TrainingSession

STEPS = 4
"""Training steps that are timed between two plans."""
PARTS: dict[str, tuple[Any, str]] = {
    "scoring": (allocation, "measure_scores"),
    "integer programs": (ScoredNetwork, "best"),
    "step sizes, batch norms and biases": (Calibrator, "nearest"),
    "reconstruction": (calibration, "reconstruct"),
    "plans on the validation split": (within_budgets, "score_row_with_activity"),
    "what is shown on the test split": (test_split, "score_row"),
}
"""What is timed, by where it is called."""
STEP, OTHER = "training steps", "all else"
SPLITS = ("train", "validation", "test")
OF_SPLIT = {"plans on the validation split": "validation", "what is shown on the test split": "test"}
"""The parts that take as long as a split is large."""


class Clock:
    """Processor seconds by part; what is timed inside a part does not count as that part's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Inside, time is this part's."""
        self._charge()
        self._running.append(part)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    def _charge(self) -> None:
        now = time.process_time()
        if self._running:
            self.seconds[self._running[-1]] = self.seconds.get(self._running[-1], 0.0) + now - self._since
        self._since = now

    def timing(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def call(*arguments: Any, **options: Any) -> Any:
            with self.timed(part):
                return function(*arguments, **options)

        return call


class TimedSteps(Progress):
    """Times some training steps of the float network whenever a plan is done.

    Args:
        stage: whose network and data they are.
        clock: that counts them.
    """

    def __init__(self, stage: Stage, clock: Clock) -> None:
        splits, batch = stage.task.splits, stage.space.training.batch_size
        self.clock, self.samples, self.taken = clock, min(STEPS, len(splits.train) // batch) * batch, 0  # type: ignore[arg-type]
        few = replace(
            splits, train=_first(splits.train, self.samples, splits), validation=_first(splits.validation, 1, splits)
        )
        self.session = TrainingSession(few, stage.space.training)
        self.network = stage.task.fresh_network()
        # The first ones warm up.
        self.trial_done("", 0.0, 0.0)
        self.taken = 0
        clock.seconds.clear()

    def trial_done(self, label: str, score: float, cost: float) -> None:
        """After every plan."""
        with self.clock.timed(STEP):
            train(self.network, self.session, epochs=1, seed=0, phase="timed")
        self.taken += self.samples


def _first(samples: Samples, count: int, splits: Splits) -> Samples:
    few: Samples = Subset(samples, range(count))
    few.frames = splits.frames  # type: ignore[attr-defined]  # what batches go by
    return few


def measure(stage: Stage, budgets: str, iterations: int) -> tuple[dict[str, float], float, int]:
    """(processor seconds of every part of an allocation, of a training sample, how many plans were made)."""
    clock, runs = Clock(), Path(tempfile.mkdtemp(prefix="bitsearch-price-"))
    space = stage.space.with_weights(stage.kept / f"{stage.space.name}-{stage.seed}.safetensors")
    try:
        with ExitStack() as patches, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            steps = TimedSteps(stage, clock)
            for part, (owner, name) in PARTS.items():
                patches.enter_context(mock.patch.object(owner, name, clock.timing(part, getattr(owner, name))))
            with clock.timed(OTHER):
                result = allocate(
                    space,
                    budgets=budgets,
                    iterations=iterations,
                    seed=stage.seed,
                    device="cpu",
                    out=runs / "run",
                    progress=steps,
                )
        clock.seconds["reconstruction"] *= ITERATIONS / iterations
        return clock.seconds, clock.seconds.pop(STEP) / steps.taken, len(result.folder.plans())
    finally:
        shutil.rmtree(runs, ignore_errors=True)


def table(seconds: Mapping[str, float], sample: float, sizes: Mapping[str, int], whole: Mapping[str, int]) -> str:
    """Markdown: a row a part, its seconds, and its epochs of the data as they are and of the whole data set."""
    lines = []
    for part in [*PARTS, OTHER]:
        spent, split = seconds.get(part, 0.0), OF_SPLIT.get(part)
        grown = spent if split is None else spent * whole[split] / sizes[split]
        lines.append([part, spent, spent / (sample * sizes["train"]), grown / (sample * whole["train"])])
    total = ["all of it", *(sum(line[column] for line in lines) for column in (1, 2, 3))]
    heads = ["part", "seconds", *(f"epochs of {each['train']:,} images" for each in (sizes, whole))]
    columns = slice(1, 3) if whole == sizes else slice(1, 4)
    rows = [[line[0], *(f"{value:.2f}" for value in line[columns])] for line in [*lines, total]]
    return figures.table([heads[0], *heads[columns]], rows)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="digits")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--budgets", default="4x,8x,16x,32x")
    parser.add_argument("--whole", metavar="TRAIN,VALIDATION,TEST", help="sizes of the whole data set's splits")
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="of a reconstruction; scaled to all")
    parser.add_argument("--float", type=Path, metavar="FOLDER", help="where the float network is kept, and found again")
    parser.add_argument("--out", type=Path, help="folder for allocate-SPACE.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = SearchSpace.load(arguments.space).override(arguments.set)
    with tempfile.TemporaryDirectory() as kept:
        stage = Stage(space, 0, arguments.float or Path(kept))
        sizes = dict(zip(SPLITS, (len(stage.task.splits.split(name)) for name in SPLITS), strict=True))
        whole = (
            sizes if arguments.whole is None else dict(zip(SPLITS, map(int, arguments.whole.split(",")), strict=True))
        )
        seconds, sample, plans = measure(stage, arguments.budgets, arguments.iterations)
    counts = ", ".join(f"{size:,}" for size in sizes.values())
    scaled = "" if whole == sizes else f", scaled to {', '.join(f'{size:,}' for size in whole.values())}"
    if arguments.iterations != ITERATIONS:
        scaled += f"; reconstructions of {arguments.iterations} iterations, scaled to {ITERATIONS}"
    text = f"""# What an allocation costs: {space.name}

`bitsearch allocate --budgets {arguments.budgets}` of {space.network}: {plans} plans. Processor time of one thread, over
that of training in full precision, of which some steps were timed after every plan. Splits of {counts} images{scaled}.

{table(seconds, sample, sizes, whole)}
A training sample takes {1000 * sample:.2f} ms. Made by {made_by()}; {machine()}.
"""
    print(text)
    if arguments.out is not None:
        write_whole(arguments.out / f"allocate-{space.name}.md", text)


if __name__ == "__main__":
    main()
