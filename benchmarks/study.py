"""What the storage and the sampler cost per trial as a study grows: trials of zero length.

``python -m benchmarks.study --storage postgresql://user@host/database`` fills a study in PostgreSQL, and prints what
a worker spends on a trial at every size, and what it spends before its first one: its own processor time, which does
not depend on who else uses the machine, and the server's, where that runs on this machine and serves nobody else.
"""

import argparse
import math
import os
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import optuna
import sqlalchemy
from optuna.distributions import FloatDistribution, distribution_to_json

from bitsearch.plan import UniformBits
from bitsearch.space import SearchSpace
from bitsearch.study.database.storage import RetryingStorage, database_url, open_storage
from bitsearch.study.sampler import TrialSampler, suggest
from bitsearch.study.study import open_study
from bitsearch.study.trial_roles import StudyPlan, TrialSchedule

WANTED = StudyPlan(10**9, [UniformBits(weight_bits=1, spike_bits=1, time_steps=1)])
GENERATION = 16
"""NSGA-II's population, as bitsearch sets it."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--samplers", nargs="+", default=["tpe", "nsga2", "random"])
    parser.add_argument("--each", type=int, default=8, help="trials measured at every size")
    given = parser.parse_args()
    quietly()
    url = database_url(given.storage)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"Optuna {optuna.__version__}, load {os.getloadavg()[0]:.1f}\n\n"
        "| sampler | finished trials | begin, s | take | decide | sample | tell | a trial, ms | the server's, ms |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for sampler in given.samplers:
        measure(url, sampler, given.sizes, given.each)


def quietly() -> None:
    """Silence what Optuna says of trials that its own loop does not run."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", "Heartbeat of storage")
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def measure(url: str, sampler: str, sizes: list[int], each: int) -> None:
    """A row for every size."""
    space = SearchSpace.load("digits")
    space = space.model_copy(update={"search": space.search.model_copy(update={"sampler": sampler})})
    for size in sizes:
        with closing(open_storage(url)) as storage:
            study = open_study(storage, f"benchmark-{sampler}-{os.getpid()}")
            fill(storage, study, space, size)
        with closing(open_storage(url)) as storage:
            # A worker that begins now: the first trial reads all others, and is not counted.
            study = open_study(storage, f"benchmark-{sampler}-{os.getpid()}")
            study.sampler, turns = TrialSampler(space, 0, WANTED), TrialSchedule(WANTED)
            begin = sum(one_trial(study, turns, space))
            before = server_seconds(storage)
            spent = np.mean([one_trial(study, turns, space) for _ in range(each)], axis=0)
            server = (server_seconds(storage) - before) / each
        shown = " | ".join(f"{1000 * part:.1f}" for part in spent)
        print(
            f"| {sampler} | {size} | {begin:.2f} | {shown} | {1000 * spent.sum():.0f} | {1000 * server:.0f} |",
            flush=True,
        )


def one_trial(study: optuna.Study, turns: TrialSchedule, space: SearchSpace) -> list[float]:
    """Seconds of processor time for taking, deciding on the role, sampling and telling."""
    times = [time.process_time()]
    turns.begun(study.get_trials(deepcopy=False))
    optuna.storages.fail_stale_trials(study)
    trial = study.ask()
    times.append(time.process_time())
    turns.assignment(study.get_trials(deepcopy=False), trial.number)
    times.append(time.process_time())
    suggest(trial, space)
    times.append(time.process_time())
    study.tell(trial, [0.5 + trial.number % 97 / 1000, 1.0 + trial.number % 89])
    times.append(time.process_time())
    return [math.fabs(part) for part in np.diff(times)]


def server_seconds(storage: RetryingStorage) -> float:
    """Processor time of all connections' processes of a server on this machine; zero of one elsewhere."""
    with storage.engine.connect() as connection:
        pids = connection.exec_driver_sql("SELECT pid FROM pg_stat_activity WHERE datname IS NOT NULL").scalars().all()
    found = [Path(f"/proc/{pid}/stat") for pid in pids]
    # After the name in brackets: state, and from the twelfth value on the time in user and kernel mode, in ticks.
    ticks = [path.read_text(encoding="utf-8").rpartition(")")[2].split()[11:13] for path in found if path.is_file()]
    return sum(int(tick) for pair in ticks for tick in pair) / os.sysconf("SC_CLK_TCK")


def fill(storage: RetryingStorage, study: optuna.Study, space: SearchSpace, size: int) -> None:
    """Finished trials up to ``size``, written by the server itself."""
    with statements(storage, study) as do:
        before = do("SELECT count(*) FROM trials WHERE study_id = :study").scalar()
        new = "FROM trials WHERE study_id = :study AND number >= :before"
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
        if space.search.sampler == "nsga2":
            generation = f"number / {GENERATION}"
            do(
                "INSERT INTO trial_system_attributes (trial_id, key, value_json) "
                f"SELECT trial_id, 'NSGAIISampler:generation', CAST({generation} AS text) {new}",
                before=before,
            )
            do(
                "INSERT INTO study_system_attributes (study_id, key, value_json) "
                f"SELECT :study, 'NSGAIISampler:parent:' || ({generation} + 1), "
                f"'[' || string_agg(CAST(trial_id AS text), ', ') || ']' {new} GROUP BY {generation} "
                "ON CONFLICT DO NOTHING",
                before=before,
            )
    with storage.engine.connect() as connection:
        # As a server does by itself after a while.
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("ANALYZE")


@contextmanager
def statements(storage: RetryingStorage, study: optuna.Study) -> Iterator:
    """Executes SQL about the study."""
    with storage.engine.begin() as connection:
        yield lambda statement, **values: connection.execute(
            sqlalchemy.text(statement), {"study": study._study_id, **values}
        )


if __name__ == "__main__":
    main()
