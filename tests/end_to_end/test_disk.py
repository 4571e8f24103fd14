"""A disk that is full or read-only: a clear message, and nothing lost that was saved."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bitsearch.search.run_folder import RunFolder

BITSEARCH = Path(sys.executable).with_name("bitsearch")
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

SCRIPT = """
mount -t tmpfs -o size=600k disk disk
run() { $BITSEARCH run --space tiny.toml --budget 8x --out disk/run --quiet; echo "exit $?" >&2; }
echo "== full" >&2; run
mount -o remount,size=100m disk; mount -o remount,ro disk
echo "== read-only" >&2; run
mount -o remount,rw disk
echo "== mended" >&2; run
cp -r disk/run kept
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare: a full disk is untested")
def test_a_full_and_a_read_only_disk_are_told_and_the_same_command_goes_on(tmp_path):
    (tmp_path / "tiny.toml").write_text(SPACE, encoding="utf-8")
    (tmp_path / "disk").mkdir()
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare --mount is not permitted: a full disk is untested")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "BITSEARCH": str(BITSEARCH)}
    finished = subprocess.run(
        [*UNSHARE, "sh", "-c", SCRIPT],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
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
