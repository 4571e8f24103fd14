"""Whatever a user's own network or data raise, wherever in a run, is one line with file and line, and exit code 2."""

import json
import re
import shutil

import pytest
from refusal import refused

pytestmark = pytest.mark.training

MODULE = """
import sys
from pathlib import Path

import torch
from torch import nn

FAULTS = {
    "value": lambda: [][0],
    "exit": lambda: sys.exit(3),
    "ending": lambda: exec("class Ending(BaseException): pass\\nraise Ending('enough')"),
    "none": lambda: None,
}
calls = 0


class Net(nn.Module):
    def __init__(self, classes, fault="", after=0):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, classes)
        self.fault, self.after = fault, after

    def forward(self, x):
        global calls
        calls += 1
        Path("calls").write_text(str(calls))
        if self.fault and calls > self.after:
            return FAULTS[self.fault]()
        return self.last(self.first(x).relu())


class Samples:
    def __init__(self, count, fault=""):
        self.x, self.targets = torch.rand(count, 6), [index % 3 for index in range(count)]
        self.fault = fault

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        if self.fault and index >= 40:
            FAULTS[self.fault]()
        return self.x[index], self.targets[index]


def data(fault="", part=""):
    counts = {"train": 64, "validation": 48, "test": 49}
    return {name: Samples(count, fault if name == part else "") for name, count in counts.items()}
"""
RUN = (
    *("run", "--model", "faulty:Net", "--data", "faulty:data", "--budget", "2x", "--trials", "1", "--quiet"),
    *("--set", "training.epochs=1", "--set", "training.full_precision_epochs=1", "--set", "search.uniform_trials=1"),
)


@pytest.fixture(scope="module")
def finished(call, tmp_path_factory):
    """A folder with a finished run."""
    work = tmp_path_factory.mktemp("faults")
    (work / "faulty.py").write_text(MODULE, encoding="utf-8")
    ended = call(*RUN, "--out", "run", cwd=work)
    assert ended.returncode == 0, ended.stderr
    return work


@pytest.fixture
def work(finished, tmp_path):
    shutil.copy(finished / "faulty.py", tmp_path)
    return tmp_path


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.98], ids=["check", "full-precision", "trial", "test-split"])
@pytest.mark.parametrize("fault", ["value", "exit", "ending", "none"])
def test_a_fault_of_the_network_wherever_it_strikes(fault, share, finished, work, call):
    calls = int((finished / "calls").read_text())
    ended = call(*RUN, "--model-arg", f"fault={fault}", "--model-arg", f"after={int(share * calls)}", cwd=work)
    line = refused(ended)
    if fault == "none":
        assert "returns NoneType; it must return one float tensor" in line
    else:
        name = {"value": "IndexError: list index", "exit": "SystemExit: 3", "ending": "Ending: enough"}[fault]
        assert re.search(rf"faulty\.py:\d+: {name}|<string>:\d+: {name}", line), line


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("fault", ["value", "exit"])
def test_a_fault_of_the_data(fault, part, work, call):
    ended = call(*RUN, "--data-arg", f"fault={fault}", "--data-arg", f"part={part}", "--out", "run", cwd=work)
    assert re.search(r"faulty\.py:\d+: (IndexError|SystemExit)", refused(ended))
    # What was found before the test split was read is there.
    assert (work / "run" / "plan.json").exists() == (part == "test")
    if part == "test":
        assert json.loads((work / "run" / "plan.json").read_text())["accuracy"].get("test") is None
        assert (work / "run" / "trials.csv").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "run/plan.json"),
        ("train", "run/plan.json", "--epochs", "1", "--output", "t.json"),
        ("deploy", "run/plan.json", "--output", "p.safetensors"),
        ("deploy", "run/plan.json", "--format", "onnx", "--output", "p.onnx"),
        ("deploy", "run/plan.json", "--format", "hub-folder", "--output", "hub"),
    ],
)
@pytest.mark.parametrize("fault", ["value", "exit"])
@pytest.mark.parametrize("after", [0, 5])
def test_a_fault_in_what_is_done_with_a_plan(command, fault, after, finished, call):
    options = ("--set", f"network_options.fault={fault}", "--set", f"network_options.after={after}", "--trust")
    ended = call(*command, *options, cwd=finished)
    # It may not be called so often, or on a trial of what it can do.
    if after == 0 or ended.returncode != 0:
        assert re.search(r"faulty\.py:\d+: (IndexError|SystemExit)", refused(ended))
