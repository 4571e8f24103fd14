"""``bitsearch`` in processes of their own: the installed command, or one forked from a process that has torch already.

Most of a command's time is the import of torch. A forked one runs the same code, in a folder and an environment of its
own, and can be signalled, killed and read like any other.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from postgres import free_port

COMMAND = str(Path(sys.executable).with_name("bitsearch"))
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["bitsearch.study.run", "bitsearch.cli.terminal.tables", "bitsearch.train.launcher"])


def started(*arguments, cwd):
    """The installed command, as a user starts it."""
    command = [COMMAND, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=cwd, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def forked(*arguments, cwd, **environment):
    """The same command, forked."""
    return Forked(_command, *map(str, arguments), cwd=cwd, **environment)


def together(count, *arguments, cwd):
    """The same command in so many processes that train together, started as a cluster's own wrapper does it."""
    shared = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [forked(*arguments, cwd=cwd, RANK=rank, LOCAL_RANK=rank, **shared) for rank in range(count)]


def ended(process, seconds=300):
    """What a process has said and how it ended, as :func:`subprocess.run` gives it; one that hangs is killed."""
    try:
        out, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate(timeout=30)
        raise
    return SimpleNamespace(returncode=process.returncode, stdout=out, stderr=errors)


class Forked:
    """A function in a forked process; used like :class:`subprocess.Popen`."""

    def __init__(self, function, *arguments, cwd, **environment):
        said = []
        for _ in range(2):
            descriptor, name = tempfile.mkstemp(prefix="bitsearch-said-")
            os.close(descriptor)
            said.append(name)
        self._files, self._said = said, None
        changed = {name: str(value) for name, value in environment.items()}
        everything = (function, arguments, str(cwd), _environment() | changed, said)
        self._process = SERVER.Process(target=_run, args=everything, daemon=True)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout):
        self._process.join(timeout)
        if self._process.is_alive():
            raise subprocess.TimeoutExpired("a forked command", timeout)
        if self._said is None:
            self._said = tuple(Path(name).read_text(encoding="utf-8") for name in self._files)
            for name in self._files:
                Path(name).unlink()
        return self._said


def _environment():
    return {**os.environ, "COLUMNS": "120"}


def _run(function, arguments, cwd, environment, said):
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate(said, 1):
        with Path(name).open("wb") as file:
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (
        open(number, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
        for number in (1, 2)
    )
    function(*arguments)


def _command(*arguments):
    from bitsearch.cli import main

    sys.argv = [COMMAND, *arguments]
    main()
