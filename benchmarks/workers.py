"""Many workers on one long study, and two workers on two cores.

``python -m benchmarks.workers --storage postgresql://user@host/database --workers 1000`` fills a study but for its last
trials, which the workers then take, with trials of zero length, and counts that each finishes once. They are
simulated: a process stands for many of them. It has a trial of each of them open at a time, and shares what it has read
of the study, so that reading is counted once a process; everything else goes the way of a real worker's trial.

``python -m benchmarks.workers --storage ... --efficiency`` compares two workers with one, in a few rounds.
"""

import argparse
import os
import platform
import random
import statistics
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context

import optuna
from optuna.trial import TrialState

from benchmarks.study import WANTED, fill, quietly, server_seconds
from bitsearch.space import SearchSpace
from bitsearch.study.database.storage import HEARTBEAT_SECONDS, database_url, open_storage
from bitsearch.study.sampler import TrialSampler, suggest
from bitsearch.study.study import DUPLICATE, ROLE, first_number, open_study
from bitsearch.study.trial_roles import StudyPlan, TrialSchedule

BUSY_SECONDS = 0.1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=4, help="that stand for the workers")
    parser.add_argument("--trials", type=int, default=100_000, help="of the study in all")
    parser.add_argument("--each", type=int, default=2, help="trials that a worker takes")
    parser.add_argument("--sampler", choices=("tpe", "nsga2", "random"), default="tpe")
    parser.add_argument("--efficiency", action="store_true")
    parser.add_argument("--rounds", type=int, default=6)
    given = parser.parse_args()
    url = database_url(given.storage)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"Optuna {optuna.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    if given.efficiency:
        efficiency(url, given.rounds)
    else:
        many(url, given.workers, given.processes, given.trials, given.each, given.sampler)


def space_with(sampler: str) -> SearchSpace:
    """The digits' space with this sampler."""
    space = SearchSpace.load("digits")
    return space.model_copy(update={"search": space.search.model_copy(update={"sampler": sampler})})


def many(url: str, workers: int, processes: int, trials: int, each: int, sampler: str) -> None:
    """Take the last trials of a study with many workers, and count all of them."""
    quietly()
    name = f"workers-{os.getpid()}"
    with closing(open_storage(url)) as storage:
        fill(storage, open_study(storage, name), space_with(sampler), trials - workers * each)
        before, start = server_seconds(storage), time.monotonic()
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            standing = [
                pool.submit(_stand_for, url, name, sampler, trials, workers // processes, index)
                for index in range(processes)
            ]
            found = [process.result() for process in standing]
            # Before the connections are closed, with whose processes their time would be lost.
            passed, server = time.monotonic() - start, server_seconds(storage) - before
        everything = open_study(storage, name).get_trials(deepcopy=False)
    taken, surplus = (sum(each.get(what, 0) for each in found) for what in ("taken", "surplus"))
    finished = Counter(first_number(trial) for trial in everything if trial.state == TrialState.COMPLETE)
    still = [trial for trial in everything if not trial.state.is_finished()]
    print(
        f"{sampler}: {workers} workers (simulated by {processes} processes) take {taken} trials, the last of {trials}, "
        f"in {passed:.0f} s; {surplus} more were begun when none was left.\n"
        f"Finished once: {sum(count == 1 for count in finished.values())} of {trials}; more than once: "
        f"{sum(count > 1 for count in finished.values())}; not finished: {len(still)}.\n"
        f"A process reads the study in {statistics.mean(each['reading'] for each in found):.1f} s of processor time; a "
        f"trial takes {1000 * sum(each['taking'] for each in found) / (taken + surplus):.0f} ms of a worker's"
        + (f", and with the reading {1000 * server / (taken + surplus):.0f} ms of the server's." if server else ".")
    )


def _stand_for(url, name, sampler, trials, workers, index):
    quietly()
    space, turns = space_with(sampler), TrialSchedule(StudyPlan(trials - len(WANTED.uniform), WANTED.uniform))
    shuffled, counted = random.Random(index), Counter()
    storage = open_storage(url)
    start = time.process_time()
    study = open_study(storage, name)
    study.sampler = TrialSampler(space, index, turns.study_plan)
    begun = turns.begun(study.get_trials(deepcopy=False))
    reading, start = time.process_time() - start, time.process_time()
    while begun < trials:
        held, beaten = [], time.monotonic()
        for _ in range(workers):
            optuna.storages.fail_stale_trials(study)
            trial = study.ask()
            storage.record_heartbeat(trial._trial_id)
            assignment = turns.assignment(study.get_trials(deepcopy=False), trial.number)
            trial.set_user_attr(ROLE, assignment.role)
            if assignment.role == DUPLICATE:
                study.tell(trial, state=TrialState.FAIL)
                counted["surplus"] += 1
                break
            suggest(trial, space)
            held.append(trial)
            beaten = _beat(storage, held, beaten)
        shuffled.shuffle(held)
        while held:
            # A worker asks and tells with one sampler, which has read the study for its trial when it asked.
            study.sampler._made_for = held[-1].number
            study.tell(held.pop(), [shuffled.uniform(0.5, 1.0), shuffled.uniform(1.0, 16.0)])
            beaten = _beat(storage, held, beaten)
            counted["taken"] += 1
        begun = turns.begun(study.get_trials(deepcopy=False))
    return {**counted, "reading": reading, "taking": time.process_time() - start}


def _beat(storage, held, beaten):
    """As every worker does for its own trial."""
    if time.monotonic() - beaten < HEARTBEAT_SECONDS:
        return beaten
    for trial in held:
        storage.record_heartbeat(trial._trial_id)
    return time.monotonic()


def efficiency(url: str, rounds: int, each: int = 20) -> None:
    """Two workers on two cores: trials a second against one worker's, with trials that compute for 100 ms."""
    quietly()
    context = get_context("spawn")
    barrier = context.Barrier(3)
    processes = [
        context.Process(target=_busy, args=(url, os.getpid(), index, rounds, each, barrier)) for index in (0, 1)
    ]
    for process in processes:
        process.start()
    rates: dict[int, list[float]] = {1: [], 2: []}
    for number in range(rounds):
        for workers in _order(number):
            barrier.wait(120)
            start = time.perf_counter()
            barrier.wait(120)
            rates[workers].append(workers * each / (time.perf_counter() - start))
    for process in processes:
        process.join(120)
    found = [two / one / 2 for one, two in zip(rates[1], rates[2], strict=True)]
    print(
        f"Trials that compute for {BUSY_SECONDS} s, {rounds} rounds of {each} a worker: "
        f"{statistics.median(rates[1]):.2f} a second with one worker, {statistics.median(rates[2]):.2f} with two on "
        f"{os.cpu_count()} cores. Parallel efficiency: {statistics.median(found):.0%} (median; {min(found):.0%} to "
        f"{max(found):.0%}); load afterwards {os.getloadavg()[0]:.1f}."
    )


def _order(number: int) -> tuple[int, int]:
    """Of the numbers of workers in a round: by turns, so that being first favours neither."""
    return (1, 2) if number % 2 == 0 else (2, 1)


def _busy(url, run, index, rounds, each, barrier) -> None:
    quietly()
    space = SearchSpace.load("digits")
    with closing(open_storage(url)) as storage:
        for number in range(rounds):
            for workers in _order(number):
                study = open_study(storage, f"efficiency-{run}-{number}-{workers}")
                study.sampler = TrialSampler(space, 0, WANTED)
                barrier.wait(120)
                for _ in range(each if index < workers else 0):
                    trial = study.ask()
                    suggest(trial, space)
                    start = time.process_time()
                    # Processor time, so that what is measured is not who else uses the machine.
                    while time.process_time() - start < BUSY_SECONDS:
                        pass
                    study.tell(trial, [0.5, 1.0])
                barrier.wait(120)


if __name__ == "__main__":
    main()
