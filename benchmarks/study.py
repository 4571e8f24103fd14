"""What the storage and the sampler cost per trial as a study grows: trials of zero length, many workers.

``python benchmarks/study.py --storage postgresql://user@host/db`` prints a table, and the exponents of its growth.
Each simulated worker keeps what a worker process keeps: an Optuna study with a cache of its own. They take turns in one
process, so that what is measured is work, not waiting; a worker that has been away reads what the others did meanwhile.
"""

import argparse
import math
import os
import platform
import time
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import optuna

from bitsearch.plan import UniformBits
from bitsearch.search.sampler import TrialSampler, suggest
from bitsearch.search.storage import database_url, open_storage
from bitsearch.search.study import Wanted, open_study
from bitsearch.space import SearchSpace

UNIFORM = [UniformBits(weight_bits=1, spike_bits=1, time_steps=1)]


@dataclass
class Spent:
    """Seconds per trial around one size of the study."""

    trials: int
    taking: float
    """Asking for a trial: number, queue, and what the others did meanwhile."""
    sampling: float
    telling: float
    deciding: float
    """Which method it is."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--trials", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--samplers", nargs="+", default=["tpe", "nsga2", "random"])
    parser.add_argument("--seconds", type=float, default=80.0, help="for each sampler")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = database_url(given.storage)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, Optuna {optuna.__version__}"
    )
    for sampler in given.samplers:
        name = f"benchmark-{sampler}-{os.getpid()}"
        spent = simulated(url, name, sampler, given.trials, given.workers, given.seconds)
        show(sampler, spent, given.workers)
    efficiency(url)


def simulated(url: str, name: str, sampler: str, trials: int, workers: int, seconds: float) -> list[Spent]:
    """Mean costs over each doubling of the study."""
    space = SearchSpace.load("digits")
    space = space.model_copy(update={"search": space.search.model_copy(update={"sampler": sampler})})
    studies = []
    for _ in range(workers):
        study = open_study(open_storage(url), name)
        study.sampler = TrialSampler(space, seed=0)
        studies.append(study)
    wanted, values = Wanted(trials, UNIFORM), np.random.default_rng(0)
    found, sums, since, next_size = [], np.zeros(4), 0, 64
    deadline = time.monotonic() + seconds
    for number in range(trials):
        study = studies[number % workers]
        times = [time.perf_counter()]
        trial = study.ask()
        times.append(time.perf_counter())
        wanted.turn(study.get_trials(deepcopy=False), trial.number)
        times.append(time.perf_counter())
        suggest(trial, space)
        times.append(time.perf_counter())
        study.tell(trial, [float(values.random()), float(values.uniform(1, 16))])
        times.append(time.perf_counter())
        sums += np.diff(times)
        since += 1
        if number + 1 == next_size or number + 1 == trials or time.monotonic() > deadline:
            taking, deciding, sampling, telling = sums / since
            found.append(Spent(number + 1, taking, sampling, telling, deciding))
            sums, since, next_size = np.zeros(4), 0, next_size * 2
            if time.monotonic() > deadline:
                break
    return found


def show(sampler: str, spent: list[Spent], workers: int) -> None:
    """A table in milliseconds, and the exponent of the growth of a trial's cost."""
    print(f"\n{sampler}, {workers} workers\n")
    print("| trials | take | decide | sample | tell | sum, ms |\n|---|---|---|---|---|---|")
    for row in spent:
        parts = [1000 * part for part in (row.taking, row.deciding, row.sampling, row.telling)]
        print(f"| {row.trials} | " + " | ".join(f"{part:.1f}" for part in parts) + f" | {sum(parts):.1f} |")
    tail = spent[-4:]
    totals = [row.taking + row.deciding + row.sampling + row.telling for row in tail]
    if len(tail) > 1:
        exponent = float(np.polyfit(np.log([row.trials for row in tail]), np.log(totals), 1)[0])
        at = totals[-1] * (100_000 / tail[-1].trials) ** max(exponent, 0.0)
        print(
            f"\nA trial's cost grows as n^{exponent:.2f} (n log n in all would be n^{_log_slope(tail):.2f}); "
            f"extrapolated, {at:.2f} s a trial at 100,000 trials."
        )


def _log_slope(rows: list[Spent]) -> float:
    """The exponent that log n shows over the same range."""
    first, last = rows[0].trials, rows[-1].trials
    return math.log(math.log(last) / math.log(first)) / math.log(last / first)


def efficiency(url: str) -> None:
    """Two workers on two cores: trials a second against one worker's, with trials that compute for 100 ms."""
    rates = []
    for workers in (1, 2):
        name = f"efficiency-{workers}-{os.getpid()}"
        open_study(open_storage(url), name)
        context = get_context("spawn")
        barrier = context.Barrier(workers + 1)
        processes = [context.Process(target=_busy, args=(url, name, barrier)) for _ in range(workers)]
        for process in processes:
            process.start()
        barrier.wait(120)
        start = time.perf_counter()
        for process in processes:
            process.join(120)
        rates.append(workers * EACH / (time.perf_counter() - start))
    print(
        f"\nTrials that compute for {BUSY_SECONDS} s: {rates[0]:.2f} a second with one worker, {rates[1]:.2f} with two "
        f"on {os.cpu_count()} cores, a parallel efficiency of {rates[1] / rates[0] / 2:.0%}."
    )


EACH = 40
BUSY_SECONDS = 0.1


def _busy(url, name, barrier) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = SearchSpace.load("digits")
    study = open_study(open_storage(url), name)
    study.sampler = TrialSampler(space, seed=0)
    barrier.wait(120)
    for _ in range(EACH):
        trial = study.ask()
        suggest(trial, space)
        start = time.process_time()
        # Processor time, so that what is measured is not who else uses the machine.
        while time.process_time() - start < BUSY_SECONDS:
            pass
        study.tell(trial, [0.5, 1.0])


if __name__ == "__main__":
    main()
