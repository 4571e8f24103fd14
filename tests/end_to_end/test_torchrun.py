"""A run in several processes: of torchrun, of ``--processes`` and of a cluster's own wrapper."""

import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from boundaries import undecided
from commands import ended, forked, together
from postgres import running_server
from refusal import refused

from bitsearch.data import batches
from bitsearch.plan import BitPlan
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.rebuild import evaluate_plan, rebuild

pytestmark = [pytest.mark.training, pytest.mark.processes]
RUN = ["run", "--space", "tiny.toml", "--budget", "8x", "--out", "run"]

SPACE = """
schema_version = 1
name = "tiny"
network = "digits_cnn"
data = "digits"
[network_options]
width = 4
[training]
full_precision_epochs = 1
epochs = 2
micro_batch = 24
[search]
trials = 1
uniform_trials = 1
"""


@torch.no_grad()
def measured_by(plan_file, processes):
    """A plan's accuracy on validation as so many processes measure it: the same samples in the same batches."""
    network, task = rebuild(plan_file)
    network.eval()
    correct = 0
    for number in range(processes):
        for inputs, labels in batches(task.splits.validation, task.space.training.at_once, share=(number, processes)):
            correct += int((network(inputs).argmax(-1) == labels).sum())
    return correct / len(task.splits.validation)


def torchrun(*arguments, cwd):
    """Two processes of torch's own launcher."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "bitsearch"]
    running = subprocess.Popen(
        [*launcher, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        out, errors = running.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        # It ends its processes first.
        running.terminate()
        running.communicate(timeout=40)
        raise
    return SimpleNamespace(returncode=running.returncode, stdout=out, stderr=errors)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder, what was printed on stdout)."""
    cwd = tmp_path_factory.mktemp("work")
    (cwd / "tiny.toml").write_text(SPACE, encoding="utf-8")
    finished = torchrun("run", "--space", "tiny.toml", "--budget", "8x", "--json", "--out", "run", cwd=cwd)
    assert finished.returncode == 0, finished.stderr
    return cwd / "run", finished.stdout


def test_one_process_writes_and_prints(run):
    folder, out = run
    result = json.loads(out)
    assert BitPlan.load(folder / "plan.json") == BitPlan.model_validate(result["chosen"])
    assert result["chosen"]["budget"][0]["met"]
    records = [record for record in RunFolder.open(folder).log() if "epoch" in record]
    assert [(record["trial"], record["phase"]) for record in records] == [
        (None, "full precision"),
        (0, "search"),
        (0, "fine-tune"),
        (1, "uniform"),
        (1, "uniform"),
    ]
    assert {record["micro_batch"] for record in records} == {24}
    assert sorted(path.name for path in folder.glob("weights/*")) == [
        "full-precision.safetensors",
        "trial-0000.safetensors",
        "trial-0001.safetensors",
    ]


def test_the_processes_are_recorded(run):
    settings = RunFolder.open(run[0]).settings
    assert settings.processes == 2
    assert settings.command.startswith("torchrun --nproc-per-node=2 -m bitsearch run --space tiny.toml")


def test_a_run_of_two_processes_goes_on_and_one_process_measures_the_same(run):
    folder, _ = run
    before = (folder / "weights" / "full-precision.safetensors").read_bytes()
    finished = ended(forked(*RUN, "--trials", "2", "--processes", "2", cwd=folder.parent))
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count("Going on after 2 finished trials.") == 1
    assert (folder / "weights" / "full-precision.safetensors").read_bytes() == before
    opened = RunFolder.open(folder)
    assert [plan.provenance.method for plan in opened.plans()] == ["adaptive", "uniform", "adaptive"]
    for plan in opened.plans():
        file = opened.plan_file(plan.provenance.trial)
        assert measured_by(file, 2) == plan.accuracy.validation
        measured = evaluate_plan(file, split="validation")
        # Samples near a rounding boundary may be beyond it in batches of another size.
        assert round(360 * abs(measured - plan.accuracy.validation)) <= undecided(file)


@pytest.mark.database
def test_a_worker_of_two_processes_takes_trials_from_a_shared_study(call, tmp_path):
    (tmp_path / "tiny.toml").write_text(SPACE, encoding="utf-8")
    with running_server() as server:
        shared = ["--storage", server.url(), "--study", "shared"]
        one = [*RUN, "--trials", "2", *shared]
        # One trial by a single process, and the others by two together.
        assert call(*one, "--timeout", "0", cwd=tmp_path).returncode == 0
        leader, other = map(ended, together(2, "worker", *shared, "--wait", "0", "--folder", "worker", cwd=tmp_path))
        assert (leader.returncode, other.returncode) == (0, 0), leader.stderr + other.stderr
        assert "Nothing is left to do; 2 trials ended here." in leader.stderr
        assert "trials ended here" not in other.stderr
        finished = call(*one, cwd=tmp_path)
        assert "Going on after 3 finished trials." in finished.stderr
    done = [line["trial"] for line in RunFolder(tmp_path / "worker").log() if line["event"] == "finished"]
    assert done == [1, 2]
    folder = RunFolder.open(tmp_path / "run")
    assert [plan.provenance.method for plan in folder.plans()] == ["adaptive", "uniform", "adaptive"]
    for plan in folder.plans():
        assert plan.met
        file = folder.plan_file(plan.provenance.trial)
        assert measured_by(file, 2 if plan.provenance.trial in done else 1) == plan.accuracy.validation
        measured = evaluate_plan(file, split="validation")
        # Samples near a rounding boundary may be beyond it in batches of another size.
        assert round(360 * abs(measured - plan.accuracy.validation)) <= undecided(file)


def refused_together(*arguments, cwd):
    """The one line of a command in two processes that refuses what it was given."""
    return refused(ended(forked("run", *arguments, "--processes", "2", cwd=cwd)))


def test_a_mistake_is_told_once(tmp_path):
    assert "budget 'four' is not understood" in refused_together("--budget", "four", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_the_first_process_alone_refuses_is_told_once_and_ends_all(run):
    folder, _ = run
    before = len(RunFolder(folder).log())
    line = refused_together("--space", "tiny.toml", "--budget", "4x", "--out", "run", cwd=folder.parent)
    assert "holds a run with budget '8x', not '4x'" in line
    assert len(RunFolder(folder).log()) == before


def test_another_number_than_the_launchers_is_refused(tmp_path):
    leader, other = map(ended, together(2, "run", "--budget", "4x", "--processes", "3", cwd=tmp_path))
    assert refused(leader) == "bitsearch: --processes is 3, but a launcher started 2 of them; leave the option out"
    # Nobody ended the other one, so it has told what it knows, too.
    assert refused(other) == refused(leader)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_of_two_processes_goes_on(tmp_path):
    (tmp_path / "tiny.toml").write_text(SPACE, encoding="utf-8")
    running, log = forked(*RUN, "--processes", "2", cwd=tmp_path), tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not log.is_file() or '"trial": 0' not in log.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        assert running.poll() is None, running.communicate(timeout=1)
        time.sleep(0.005)
    running.send_signal(signal.SIGINT)
    finished = ended(running)
    assert finished.returncode == 130, finished.stderr
    assert "Traceback" not in finished.stderr
    folder = RunFolder(tmp_path / "run")
    assert [path.name for path in folder.path.glob("checkpoints/*")] == ["trial-0000.safetensors"]
    resumed = ended(forked(*RUN, cwd=tmp_path))
    assert resumed.returncode == 0, resumed.stderr
    assert [plan.provenance.method for plan in folder.plans()] == ["adaptive", "uniform"]
    done = [(line["trial"], line["phase"], line["epoch"]) for line in folder.log() if line["event"] == "epoch"]
    assert len(done) == len(set(done)) == 5
