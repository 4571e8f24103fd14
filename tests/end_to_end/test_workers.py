"""Many workers on one study in a real PostgreSQL: killed, cut off, and the server restarted."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from commands import Forked, ended, forked, started
from optuna.trial import TrialState
from postgres import PASSWORD, free_port, running_server
from sleepers import take_trials

from bitsearch.runs.folder import RunFolder
from bitsearch.study.database.storage import database_url, open_storage
from bitsearch.study.study import DUPLICATE, ROLE, first_number, open_study

pytestmark = [pytest.mark.training, pytest.mark.processes, pytest.mark.database]

SPACE = """
schema_version = 1
name = "tiny"
network = "digits_cnn"
data = "digits"
[network_options]
width = 2
[training]
batch_size = 256
full_precision_epochs = 1
epochs = 2
[search]
trials = 3
uniform_trials = 1
sampler = "random"
[search.parameters]
weight_price = { low = 0.2, high = 5.0, log = true }
"""


@pytest.fixture(scope="module")
def server():
    with running_server() as found:
        yield found


class Proxy:
    """A TCP proxy on loopback: cut, it closes what is connected and lets nobody through."""

    name = "a TCP proxy that drops connections"
    file = None

    def __init__(self, port):
        self.target, self.is_cut = port, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self.listener.getsockname()
        self.sockets = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
                if self.is_cut:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                if self.listener.fileno() < 0:
                    return
                client.close()
                continue
            self.sockets += [client, server]
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source, sink):
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        # Closing alone does not wake the thread that reads the other way.
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        self.is_cut = True
        for end in self.sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self):
        self.is_cut = False

    def close(self):
        self.cut()
        for end in [self.listener, *self.sockets]:
            end.close()


class Namespace:
    """A network namespace with a cable to this one: cut, packets vanish and nobody is told, as in real life."""

    name = "a network namespace whose cable is pulled"

    def __init__(self, port):
        self.port, number = port, os.getpid() % 250
        self.space, self.cable, self.end = f"bits{number}", f"bs{number}a", f"bs{number}b"
        self.host = f"10.213.{number}.1"
        self.file = Path("/run/netns", self.space)
        try:
            self._do("netns", "add", self.space)
            self._do("link", "add", self.cable, "type", "veth", "peer", "name", self.end, "netns", self.space)
            self._do("addr", "add", f"{self.host}/24", "dev", self.cable)
            self._do("link", "set", self.cable, "up")
            self._do("-n", self.space, "addr", "add", f"10.213.{number}.2/24", "dev", self.end)
            self._do("-n", self.space, "link", "set", self.end, "up")
        except (subprocess.CalledProcessError, FileNotFoundError):
            self.close()
            raise

    def _do(self, *arguments):
        subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)

    def cut(self):
        self._do("-n", self.space, "link", "set", self.end, "down")

    def mend(self):
        self._do("-n", self.space, "link", "set", self.end, "up")

    def close(self):
        for arguments in (("link", "del", self.cable), ("netns", "del", self.space)):
            with suppress(subprocess.CalledProcessError, FileNotFoundError):
                self._do(*arguments)


def cable_to(server):
    """A network that can be cut: a namespace where that is permitted, a proxy elsewhere."""
    try:
        found = Namespace(server.port)
    except (subprocess.CalledProcessError, FileNotFoundError):
        return Proxy(server.port)
    return found


def test_a_network_can_be_cut_as_in_real_life(server):
    cable = cable_to(server)
    cable.close()
    if isinstance(cable, Proxy):
        pytest.skip("network namespaces are not permitted here: the network is cut by a TCP proxy instead")


def worker(url, folder, trials, namespace=None, study="shared"):
    return Forked(take_trials, url, folder, trials, study, namespace, cwd=folder)


def finished_trials(study):
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]


def until(study, count, seconds=240):
    """Wait for so many finished trials."""
    deadline = time.monotonic() + seconds
    while (found := len(finished_trials(study))) < count:
        assert time.monotonic() < deadline, f"{found} of {count} trials after {seconds} s"
        time.sleep(0.1)


def test_workers_may_be_the_first_to_open_an_empty_database_all_at_once(server):
    def execute(statement):
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(statement)

    for number in range(5):
        execute(f"CREATE DATABASE empty_{number}")
        url = database_url(server.url().replace("/postgres", f"/empty_{number}"))
        start = threading.Barrier(4)

        def opened(_, url=url, start=start):
            start.wait(30)
            with closing(open_storage(url)) as storage:
                return open_study(storage, "first").study_name

        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(opened, range(4))) == ["first"] * 4


def kill_at_a_trial(worker, study, workers, seconds=240):
    """Kill a worker once it surely has a trial: while it stands still, as many run as there are workers."""
    deadline = time.monotonic() + seconds

    def all_work():
        return len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))) >= workers

    while True:
        if all_work():
            worker.send_signal(signal.SIGSTOP)
            if all_work():
                return worker.send_signal(signal.SIGKILL)
            worker.send_signal(signal.SIGCONT)
        assert time.monotonic() < deadline, f"no {workers} trials at once within {seconds} s"
        time.sleep(0.02)


def test_every_trial_finishes_once_whatever_happens_to_workers_network_and_server(server, tmp_path):
    (tmp_path / "tiny.toml").write_text(SPACE, encoding="utf-8")
    trials, url = 30, database_url(server.url())
    watching = open_storage(url)
    study = open_study(watching, "shared")
    cable = cable_to(server)
    print(f"the network is {cable.name}")
    server.listen(cable.host)
    far = server.url(cable.port, host=cable.host)
    workers = [worker(url, tmp_path, trials) for _ in range(3)]
    workers.append(worker(database_url(far), tmp_path, trials, cable.file))
    try:
        until(study, 5)
        workers[0].send_signal(signal.SIGKILL)
        cable.cut()
        until(study, 11)
        server.stop()
        time.sleep(2)
        server.start()
        until(study, 18)
        cable.mend()
        for process in workers[1:]:
            finished = ended(process)
            assert finished.returncode == 0, finished.stderr
            assert PASSWORD not in finished.stderr
    finally:
        cable.close()
        for process in workers:
            process.kill()
            process.communicate(timeout=30)
    every_trial_finished_once(study, trials)
    watching.close()


def every_trial_finished_once(study, trials):
    """Those that search and one uniform; what a killed worker was at was taken again."""
    everything = study.get_trials(deepcopy=False)
    counted = Counter(first_number(trial) for trial in everything if trial.state == TrialState.COMPLETE)
    assert len(counted) == trials + 1
    assert set(counted.values()) == {1}
    assert [trial for trial in everything if trial.state in (TrialState.RUNNING, TrialState.WAITING)] == []
    given_up = {first_number(trial) for trial in everything if trial.state == TrialState.FAIL}
    surplus = {trial.number for trial in everything if trial.user_attrs.get(ROLE) == DUPLICATE}
    assert given_up - surplus <= set(counted)
    assert given_up - surplus


def test_workers_behind_a_proxy_are_missed_when_they_die(server, tmp_path):
    pytest.importorskip("grpc", reason="grpc is not installed: the proxy is untested")
    (tmp_path / "tiny.toml").write_text(SPACE, encoding="utf-8")
    port = str(free_port())
    proxy = started("proxy", "--storage", server.url(), "--port", port, cwd=tmp_path)
    assert proxy.stderr.readline().strip() == f"Workers: --storage grpc://127.0.0.1:{port}"
    trials, url = 24, database_url(server.url())
    watching = open_storage(url)
    study = open_study(watching, "proxied")
    addresses = [url, f"grpc://127.0.0.1:{port}", f"grpc://127.0.0.1:{port}"]
    workers = [worker(address, tmp_path, trials, study="proxied") for address in addresses]
    try:
        kill_at_a_trial(workers[-1], study, len(workers))
        for process in workers[:-1]:
            finished = ended(process, 120)
            assert finished.returncode == 0, finished.stderr
        assert proxy.poll() is None
    finally:
        for process in [proxy, *workers]:
            process.kill()
            process.communicate(timeout=30)
    every_trial_finished_once(study, trials)
    watching.close()


def test_run_and_workers_share_a_study_and_the_password_is_nowhere(call, server, tmp_path):
    (tmp_path / "tiny.toml").write_text(SPACE, encoding="utf-8")
    shared = ["--storage", server.url(), "--study", "digits-8x"]
    run = ["run", "--space", "tiny.toml", "--budget", "8x", *shared, "--out"]
    processes = [
        forked("worker", *shared, "--wait", "120", "--folder", "scratch", cwd=tmp_path),
        forked(*run, "run", cwd=tmp_path),
    ]
    said = []
    for process in processes:
        finished = ended(process)
        said += [finished.stdout, finished.stderr]
        assert finished.returncode == 0, said
    folder = RunFolder(tmp_path / "run")
    plans = folder.plans()
    assert [plan.provenance.method for plan in plans].count("adaptive") == 3
    assert [plan.provenance.method for plan in plans].count("uniform") == 1
    for plan in plans:
        assert folder.weights_file(plan.provenance.trial).is_file()
        assert plan.met
    assert folder.report_file.is_file()
    assert "postgresql://bitsearch:***@" in folder.settings.storage
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    for path in written:
        assert PASSWORD.encode() not in path.read_bytes(), path
    assert PASSWORD not in "".join(said)
    # Whoever gives the command elsewhere gets plans, weights and report, and trains nothing.
    again = call(*run, "elsewhere", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    elsewhere = RunFolder(tmp_path / "elsewhere")
    assert [line for line in elsewhere.log() if line["event"] == "epoch"] == []
    assert [(plan.layers, plan.accuracy) for plan in elsewhere.plans()] == [
        (plan.layers, plan.accuracy) for plan in plans
    ]
    assert elsewhere.report_file.is_file()
    with closing(open_storage(database_url(server.url()))) as storage, storage.engine.connect() as connection:
        attributes = connection.exec_driver_sql("SELECT value_json FROM study_user_attributes").scalars()
        assert all(PASSWORD not in value for value in attributes)


def test_a_server_that_is_not_there_is_one_line_without_the_password(call, server, tmp_path):
    finished = call("worker", "--storage", server.url(port=1), "--study", "none", cwd=tmp_path)
    assert finished.returncode == 2
    (line,) = [line for line in finished.stderr.splitlines() if line.strip()]
    assert "cannot open the study's storage" in line
    assert PASSWORD not in line


def test_a_study_that_is_not_there_names_those_that_are(server, tmp_path):
    finished = ended(started("worker", "--storage", server.url(), "--study", "none", "--wait", "0", cwd=tmp_path))
    assert finished.returncode == 2
    assert "no study 'none' in the storage; it has: " in finished.stderr
