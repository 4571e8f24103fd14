"""A run killed at any moment ends like one that was not."""

import os
import random
import signal
import time

import pytest
from commands import Forked, ended, forked

from bitsearch.files import DRAFT_PREFIX
from bitsearch.runs.folder import RunFolder
from bitsearch.space import SearchSpace
from bitsearch.study.run import search

pytestmark = [pytest.mark.training, pytest.mark.processes]
OPTIONS = ["--space", "tiny.toml", "--budget", "8x"]
KILLS = int(os.environ.get("BITSEARCH_KILLS", "12"))
"""In all; a run that ends before so many is followed by another one, in another folder."""

SPACE = """
schema_version = 1
name = "tiny"
network = "digits_cnn"
data = "digits"
[network_options]
width = 2
[training]
batch_size = 256
full_precision_epochs = 2
epochs = 3
[search]
trials = 2
uniform_trials = 1
[search.parameters]
weight_price = { low = 0.2, high = 5.0, log = true }
estimator = { choices = ["curvature", "straight_through"] }
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A working directory, with an undisturbed run in ``undisturbed``."""
    cwd = tmp_path_factory.mktemp("kills")
    (cwd / "tiny.toml").write_text(SPACE, encoding="utf-8")
    finished = ended(started(cwd, "undisturbed"))
    assert finished.returncode == 0, finished.stderr
    return cwd


def started(cwd, out):
    return forked("run", *OPTIONS, "--out", out, "--quiet", cwd=cwd)


def readable(folder):
    """Everything a reader may find is whole."""
    for plan in folder.plans():
        assert plan.met
    if folder.settings_file.is_file():
        assert folder.settings.seed == 0


def ended_alike(cwd, out):
    resumed, undisturbed = RunFolder(cwd / out), RunFolder(cwd / "undisturbed")
    for was, now in zip(undisturbed.plans(), resumed.plans(), strict=True):
        assert now.layers == was.layers
        assert now.accuracy == was.accuracy
        assert now.costs == was.costs
        assert now.provenance.trial == was.provenance.trial
        name = was.provenance.trial
        assert resumed.weights_file(name).read_bytes() == undisturbed.weights_file(name).read_bytes()
    assert resumed.settings.full_precision == undisturbed.settings.full_precision
    assert [path.name for path in (resumed.path / "checkpoints").iterdir()] == []
    assert list(resumed.path.rglob(f"{DRAFT_PREFIX}*")) == []
    assert (resumed.path / "plan.json").read_text().replace(out, "") == (
        undisturbed.path / "plan.json"
    ).read_text().replace("undisturbed", "")


def epochs(folder):
    """(trial, phase, epoch) of every epoch in the log, in order."""
    return [(line["trial"], line["phase"], line["epoch"]) for line in folder.log() if line.get("event") == "epoch"]


def go_on(space, out):
    """What the command does, but for its report."""
    search(
        SearchSpace.load(space), "8x", out=out, command=f"bitsearch run {' '.join(OPTIONS)} --out {out.name} --quiet"
    )


def go_on_to_the_end(work, out):
    """Left alone from here on, the run ends like the undisturbed one."""
    finished = ended(Forked(go_on, work / "tiny.toml", work / out, cwd=work))
    assert finished.returncode == 0, finished.stderr
    ended_alike(work, out)


def killed_run(work, out, moment, kills):
    """A run that is killed at most so often and then left alone until it ends; how often it was."""
    folder, killed = RunFolder(work / out), 0
    while killed < kills:
        process = Forked(go_on, work / "tiny.toml", folder.path, cwd=work)
        # Within a third of a second after an event, or none.
        before, deadline = len(folder.log()), time.monotonic() + 120
        awaited = moment.randrange(0, 4)
        while process.poll() is None and len(folder.log()) < before + awaited and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(moment.random() * 0.3)
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGKILL, 0)
        readable(folder)
        if process.returncode == 0:
            break
        killed += 1
    go_on_to_the_end(work, out)
    logged, undisturbed = epochs(folder), epochs(RunFolder(work / "undisturbed"))
    # An epoch is logged before it is saved, so each kill repeats at most one.
    assert len(logged) <= len(undisturbed) + killed
    assert sorted(set(logged), key=str) == sorted(set(undisturbed), key=str)
    return killed


def test_runs_killed_at_random_moments_end_like_an_undisturbed_one(work):
    moment, killed, runs = random.Random(0), 0, 0
    while killed < KILLS:
        killed += killed_run(work, f"killed-{runs}", moment, KILLS - killed)
        runs += 1
        assert runs <= KILLS
    print(f"{runs} runs, killed {killed} times in all, end like an undisturbed one")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_saves_the_epoch_and_says_how_to_go_on(work, number):
    cwd, out = work, f"signal-{number}"
    process = started(cwd, out)
    log = cwd / out / "log.jsonl"
    deadline = time.monotonic() + 120
    while not log.is_file() or '"trial": 0' not in log.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert [path.name for path in (cwd / out / "checkpoints").iterdir()] == ["trial-0000.safetensors"]
    resumed = ended(started(cwd, out))
    assert resumed.returncode == 0, resumed.stderr
    ended_alike(cwd, out)
    assert epochs(RunFolder(cwd / out)) == epochs(RunFolder(cwd / "undisturbed"))


def test_two_signals_stop_at_once(work):
    cwd = work
    process = started(cwd, "twice")
    deadline = time.monotonic() + 120
    while not (cwd / "twice" / "log.jsonl").is_file():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    go_on_to_the_end(cwd, "twice")


def test_a_second_process_on_one_folder_is_told(work):
    cwd = work
    first = started(cwd, "both")
    deadline = time.monotonic() + 120
    while not (cwd / "both" / "log.jsonl").is_file():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    second = started(cwd, "both")
    first.send_signal(signal.SIGSTOP)
    try:
        _, errors = second.communicate(timeout=120)
    finally:
        first.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    assert "another process is running the search in both" in errors
    first.communicate(timeout=300)
    assert first.returncode == 0
    ended_alike(cwd, "both")
