"""How processes that train together end: many ends in a row, while other processes keep every core busy.

``python -m benchmarks.exits`` trains a tiny run once; then ``torchrun`` starts the same command again and again, which
finds everything done, loads the network in all processes and leaves. With ``--storage postgresql://user@host/database``
workers of several processes find a finished study and leave. Counted are exit codes, aborts ("terminate called") and
tracebacks; an end takes some ten seconds, each is given up after two minutes.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

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
[search]
trials = 1
uniform_trials = 1
"""
SECONDS = 120
"""An end is given up after this long."""


def main() -> None:
    """Measure and print; exit code 1 if an end was not clean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ends", type=int, default=30)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--busy", type=int, default=os.cpu_count() or 1, help="processes that only compute meanwhile")
    parser.add_argument("--storage", help="end workers on a study in this database instead of runs")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="bitsearch-exits-") as folder:
        cwd = Path(folder)
        (cwd / "tiny.toml").write_text(SPACE, encoding="utf-8")
        study = [] if given.storage is None else ["--storage", given.storage, "--study", f"exits-{uuid.uuid4().hex}"]
        run = ["run", "--space", "tiny.toml", "--budget", "8x", "--out", "run", *study]
        subprocess.run([sys.executable, "-m", "bitsearch", *run, "--quiet"], cwd=cwd, check=True, timeout=600)
        command = run if given.storage is None else ["worker", *study, "--wait", "0"]
        started = time.monotonic()
        with busy(given.busy):
            ends = [end(command, given.processes, cwd) for _ in range(given.ends)]
    codes = [code for code, _ in ends]
    aborts = sum("terminate called" in errors or code < 0 for code, errors in ends)
    tracebacks = sum("Traceback" in errors for _, errors in ends)
    what = "runs" if given.storage is None else "workers"
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}: "
        f"{len(ends)} ends of {what} of {given.processes} processes beside {given.busy} busy ones in "
        f"{time.monotonic() - started:.0f} s; exit code 0 {codes.count(0)} times, {aborts} aborts, "
        f"{tracebacks} tracebacks"
    )
    sys.exit(0 if codes.count(0) == len(ends) and not aborts and not tracebacks else 1)


def end(command: Sequence[str], processes: int, cwd: Path) -> tuple[int, str]:
    """(exit code, stderr) of a command under ``torchrun``."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    finished = subprocess.run(
        [*launcher, "-m", "bitsearch", *command],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return finished.returncode, finished.stderr


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Inside, so many processes compute without end."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    main()
