"""A disk that is full or read-only: a clear message, and nothing lost that was saved."""

import os
import shutil
import subprocess
import sys

import pytest

from bitsearch.runs.folder import RunFolder

pytestmark = [pytest.mark.training, pytest.mark.processes]
UNSHARE = ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else [])]

SPACE = """
schema_version = 1
name = "tiny"
network = "digits_cnn"
data = "digits"
[network_options]
width = 8
[training]
batch_size = 256
full_precision_epochs = 1
epochs = 1
[search]
trials = 3
uniform_trials = 1
"""

# Torch is imported once, for three commands.
SCRIPT = """
import os, subprocess, sys
import bitsearch.cli.terminal.tables, bitsearch.study.run
from bitsearch.cli import main

sys.argv = "bitsearch run --space tiny.toml --budget 8x --out disk/run --quiet".split()

def mount(*options):
    subprocess.run(["mount", *options, "disk"], check=True)

def run(name):
    print("==", name, file=sys.stderr, flush=True)
    if not (child := os.fork()):
        main()
    print("exit", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.stderr, flush=True)

mount("-t", "tmpfs", "-o", "size=600k", "tmpfs")
run("full")
mount("-o", "remount,size=100m")
mount("-o", "remount,ro")
run("read-only")
mount("-o", "remount,rw")
run("mended")
subprocess.run(["cp", "-r", "disk/run", "kept"], check=True)
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare: a full disk is untested")
def test_a_full_and_a_read_only_disk_are_told_and_the_same_command_goes_on(tmp_path):
    (tmp_path / "tiny.toml").write_text(SPACE, encoding="utf-8")
    (tmp_path / "disk").mkdir()
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare --mount is not permitted: a full disk is untested")
    command = [*UNSHARE, sys.executable, "-c", SCRIPT]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    parts = {part.split("\n")[0]: part.splitlines()[1:] for part in finished.stderr.split("== ")[1:]}
    (said, ended) = parts["full"]
    assert ended == "exit 2"
    assert "disk/run" in said
    assert "No space left" in said or "disk is full" in said
    (said, ended) = parts["read-only"]
    assert ended == "exit 2"
    assert "ead-only" in said
    assert parts["mended"][-1] == "exit 0", finished.stderr
    methods = [plan.provenance.method for plan in RunFolder(tmp_path / "kept").plans()]
    assert sorted(methods) == ["adaptive"] * 3 + ["uniform"]
