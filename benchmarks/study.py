"""What the storage and the sampler cost per trial as a study grows: trials of zero length, many workers.

``python -P benchmarks/study.py --storage postgresql://user@host/database`` fills a study in PostgreSQL, and prints what
a worker spends on a trial at every size: its own processor time, which does not depend on who else uses the machine,
and the time that passed. Every worker reads every finished trial once.
"""

import argparse
import math
import os
import platform
import time
import warnings
from contextlib import closing
from multiprocessing import get_context

import numpy as np
import optuna
import sqlalchemy
from optuna.distributions import FloatDistribution, distribution_to_json

from bitsearch.plan import UniformBits
from bitsearch.search.sampler import TrialSampler, suggest
from bitsearch.search.storage import PatientStorage, database_url, open_storage
from bitsearch.search.study import Wanted, open_study
from bitsearch.space import SearchSpace

EACH = 40
BUSY_SECONDS = 0.1
WANTED = Wanted(10**9, [UniformBits(weight_bits=1, spike_bits=1, time_steps=1)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[250, 1000, 4000, 16000])
    parser.add_argument("--each", type=int, default=8, help="trials measured at every size")
    parser.add_argument("--seconds", type=float, default=100.0, help="for each sampler; what does not fit is left out")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Heartbeats are sent by Optuna's own loop, which is not what is measured.
    warnings.filterwarnings("ignore", "Heartbeat of storage")
    url = database_url(given.storage)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, Optuna {optuna.__version__}"
    )
    for sampler in ("tpe", "nsga2", "random"):
        measure(url, sampler, given.sizes, given.each, given.seconds)
    efficiency(url)


def measure(url: str, sampler: str, sizes: list[int], each: int, seconds: float) -> None:
    """A table, and the exponent of the growth."""
    space = SearchSpace.load("digits")
    space = space.model_copy(update={"search": space.search.model_copy(update={"sampler": sampler})})
    print(
        f"\n{sampler}\n\n| finished trials | first read, s | take | decide | sample | tell | a trial, ms | passed, ms |"
    )
    print("|---|---|---|---|---|---|---|---|")
    start, rows = time.monotonic(), []
    for size in sizes:
        if time.monotonic() - start > seconds:
            break
        with closing(open_storage(url)) as storage:
            study = open_study(storage, f"benchmark-{sampler}-{os.getpid()}")
            fill(storage, study, space, size)
        with closing(open_storage(url)) as storage:
            # A worker that begins now.
            study = open_study(storage, f"benchmark-{sampler}-{os.getpid()}")
            study.sampler = TrialSampler(space, 0, WANTED)
            passed = time.perf_counter()
            spent = [one_trial(study, space, first=number == 0) for number in range(each + 1)]
            passed = (time.perf_counter() - passed) / (each + 1)
        reading, mean = spent[0][0], np.mean(spent[1:], axis=0)
        shown = " | ".join(f"{1000 * part:.1f}" for part in mean[1:])
        print(f"| {size} | {reading:.2f} | {shown} | {1000 * mean[1:].sum():.1f} | {1000 * passed:.0f} |", flush=True)
        rows.append((size, reading, mean[1:].sum()))
    if len(rows) > 1:
        for index, what in ((1, "Reading the study once"), (2, "A trial")):
            values = np.array([[row[0], row[index]] for row in rows[-3:]])
            exponent = float(np.polyfit(np.log(values[:, 0]), np.log(values[:, 1]), 1)[0])
            at = values[-1, 1] * (100_000 / values[-1, 0]) ** exponent
            print(f"\n{what} grows as n^{exponent:.2f}: extrapolated, {at:.3g} s of a worker's time at 100,000 trials.")


def one_trial(study: optuna.Study, space: SearchSpace, *, first: bool) -> list[float]:
    """Seconds of processor time for the first read, taking, deciding on the method, sampling and telling."""
    times = [time.process_time()]
    if first:
        study.get_trials(deepcopy=False)
    times.append(time.process_time())
    trial = study.ask()
    times.append(time.process_time())
    WANTED.turn(study.get_trials(deepcopy=False), trial.number)
    times.append(time.process_time())
    suggest(trial, space)
    times.append(time.process_time())
    study.tell(trial, [0.5 + trial.number % 97 / 1000, 1.0 + trial.number % 89])
    times.append(time.process_time())
    return [math.fabs(part) for part in np.diff(times)]


def fill(storage: PatientStorage, study: optuna.Study, space: SearchSpace, size: int) -> None:
    """Finished trials up to ``size``, written by the server itself."""
    with storage.engine.begin() as connection:

        def do(statement: str, **values: object) -> None:
            connection.execute(sqlalchemy.text(statement), {"study": study._study_id, **values})

        new = "FROM trials WHERE study_id = :study AND number >= :before"
        before = len(study.get_trials(deepcopy=False))
        do(
            "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) "
            "SELECT number, :study, 'COMPLETE', now(), now() "
            "FROM generate_series(CAST(:before AS int), CAST(:last AS int)) AS number",
            before=before,
            last=size - 1,
        )
        for name, parameter in space.search.parameters.items():
            assert parameter.range is not None
            low, high = parameter.range
            distribution = distribution_to_json(FloatDistribution(low, high, log=parameter.log))
            do(
                "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) "
                "SELECT trial_id, CAST(:name AS text), CAST(:low AS float) + random() * CAST(:width AS float), "
                f"CAST(:distribution AS text) {new}",
                before=before, name=name, low=low, width=high - low, distribution=distribution,
            )  # fmt: skip
        for objective, value in ((0, "0.5 + 0.5 * random()"), (1, "1 + 15 * random()")):
            do(
                "INSERT INTO trial_values (trial_id, objective, value, value_type) "
                f"SELECT trial_id, CAST(:objective AS int), {value}, 'FINITE' {new}",
                before=before, objective=objective,
            )  # fmt: skip
        do(
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) "
            f"SELECT trial_id, 'role', '\"searched\"' {new}",
            before=before,
        )


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


def _busy(url, name, barrier) -> None:
    warnings.filterwarnings("ignore", "Heartbeat of storage")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = SearchSpace.load("digits")
    study = open_study(open_storage(url), name)
    study.sampler = TrialSampler(space, 0, WANTED)
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
