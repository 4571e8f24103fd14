"""A PostgreSQL server of Debian's packages on loopback, for one test session."""

import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

USER = "bitsearch"
PASSWORD = "elephant-1"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Server:
    """Started in ``folder``; refuses to run as root, so root starts it as the user ``postgres``."""

    def __init__(self, programs, folder):
        self.programs, self.data, self.port = programs, folder / "data", free_port()
        self.hosts = ["127.0.0.1"]
        self.secret = folder / "password"
        self.secret.write_text(PASSWORD, encoding="utf-8")
        if os.getuid() == 0:
            for path in (folder, self.secret):
                shutil.chown(path, "postgres")
        self._do("initdb", "-D", self.data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={self.secret}")

    def _do(self, program, *arguments):
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        command = [*user, self.programs / program, *arguments]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, timeout=120, cwd="/")

    def start(self, **settings):
        given = {
            "listen_addresses": f"'{','.join(self.hosts)}'",
            "unix_socket_directories": "",
            "fsync": "off",
            **settings,
        }
        options = " ".join(f"-c {name}={value}" for name, value in given.items())
        log = self.data / "server.log"
        self._do("pg_ctl", "-D", self.data, "-l", log, "-o", f"-p {self.port} {options}", "-w", "start")

    def stop(self):
        self._do("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")

    def listen(self, host):
        """Be reachable at another address of this machine too."""
        if host not in self.hosts:
            self.stop()
            self.hosts.append(host)
            with (self.data / "pg_hba.conf").open("a", encoding="utf-8") as rules:
                rules.write(f"host all all {host}/24 scram-sha-256\n")
            self.start()

    def url(self, port=None, host="127.0.0.1"):
        return f"postgresql://{USER}:{PASSWORD}@{host}:{port or self.port}/postgres"


def programs():
    """The folder of initdb and pg_ctl; None where PostgreSQL is not installed."""
    found = shutil.which("pg_ctl")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@contextmanager
def running_server():
    """A server; the test is skipped, with the reason, where there can be none."""
    found = programs()
    if found is None:
        pytest.skip(
            "PostgreSQL is not installed (apt-get install postgresql): studies of several machines are untested"
        )
    if os.getuid() == 0 and not shutil.which("setpriv"):
        pytest.skip(
            "PostgreSQL refuses to run as root, and there is no setpriv: studies of several machines are untested"
        )
    # Not pytest's own folder, which nobody but its owner may enter.
    with TemporaryDirectory(prefix="bitsearch-postgres-", ignore_cleanup_errors=True) as folder:
        server = Server(found, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
