"""A run in several processes, through torchrun."""

import json
import os
import subprocess
import sys

import pytest
from postgres import running_server

from bitsearch.plan import BitPlan
from bitsearch.search.evaluate import evaluate_plan
from bitsearch.search.run_folder import RunFolder

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


def torchrun(*arguments, cwd):
    """The finished command; its processes end with it."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "bitsearch"]
    with subprocess.Popen(
        [*launcher, *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            out, errors = running.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            running.terminate()
            raise
    return running.returncode, out, errors


def alone(*arguments, cwd):
    """What the command says in one process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bitsearch", *arguments]
    finished = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder, what was printed on stdout)."""
    cwd = tmp_path_factory.mktemp("work")
    (cwd / "tiny.toml").write_text(SPACE, encoding="utf-8")
    code, out, errors = torchrun("run", "--space", "tiny.toml", "--budget", "8x", "--json", "--out", "run", cwd=cwd)
    assert code == 0, errors
    return cwd / "run", out


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
    arguments = ("run", "--space", "tiny.toml", "--budget", "8x", "--trials", "2", "--out", "run")
    code, _, errors = torchrun(*arguments, cwd=folder.parent)
    assert code == 0, errors
    assert "Going on after 2 finished trials." in errors
    assert (folder / "weights" / "full-precision.safetensors").read_bytes() == before
    opened = RunFolder.open(folder)
    assert [plan.provenance.method for plan in opened.plans()] == ["adaptive", "uniform", "adaptive"]
    for plan in opened.plans():
        measured = evaluate_plan(opened.plan_file(plan.provenance.trial), split="validation")
        # One sample at most may fall on the other side of a rounding boundary in batches of another size.
        assert measured == pytest.approx(plan.accuracy.validation, abs=1.5 / 360)


def test_a_worker_of_two_processes_takes_trials_from_a_shared_study(tmp_path):
    (tmp_path / "tiny.toml").write_text(SPACE, encoding="utf-8")
    with running_server() as server:
        shared = ["--storage", server.url(), "--study", "shared"]
        run = ["run", "--space", "tiny.toml", "--budget", "8x", "--trials", "2", "--out", "run", *shared]
        # One trial by a single process, and the others by two together.
        alone(*run, "--timeout", "0", cwd=tmp_path)
        code, _, errors = torchrun("worker", *shared, "--wait", "0", "--folder", "worker", cwd=tmp_path)
        assert code == 0, errors
        assert errors.count("trials ended here") == 1
        assert "Nothing is left to do; 2 trials ended here." in errors
        assert "Going on after 3 finished trials." in alone(*run, cwd=tmp_path)
    done = [line["trial"] for line in RunFolder(tmp_path / "worker").log() if line["event"] == "finished"]
    assert done == [1, 2]
    folder = RunFolder.open(tmp_path / "run")
    assert [plan.provenance.method for plan in folder.plans()] == ["adaptive", "uniform", "adaptive"]
    for plan in folder.plans():
        assert plan.met
        measured = evaluate_plan(folder.plan_file(plan.provenance.trial), split="validation")
        # One sample at most may fall on the other side of a rounding boundary in batches of another size.
        assert measured == pytest.approx(plan.accuracy.validation, abs=1.5 / 360)


def test_a_mistake_is_told_once(tmp_path):
    code, out, errors = torchrun("run", "--budget", "four", cwd=tmp_path)
    assert code != 0
    assert out == ""
    assert sum(line.startswith("bitsearch: ") for line in errors.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
