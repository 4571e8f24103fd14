import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import optuna
import pytest
from optuna.storages import InMemoryStorage

from bitsearch.errors import InputError, StorageError
from bitsearch.study.database.artifacts import Artifacts


@pytest.fixture
def study():
    return optuna.create_study(storage=InMemoryStorage())


def handed_over(artifacts, study, tmp_path):
    """A file uploaded for a trial and fetched into another folder."""
    source, target = tmp_path / "here" / "plan.json", tmp_path / "there" / "plan.json"
    for path in (source, target):
        path.parent.mkdir()
    source.write_text("first", encoding="utf-8")
    trial = study.ask()
    artifacts.upload(trial, source)
    source.write_text("latest", encoding="utf-8")
    artifacts.upload(trial, source)
    artifacts.fetch(study.trials[trial.number], study._storage, target)
    return target, study.trials[trial.number]


def test_the_latest_of_a_name_is_fetched_and_what_is_there_is_left(study, tmp_path):
    artifacts = Artifacts(str(tmp_path / "store"))
    target, trial = handed_over(artifacts, study, tmp_path)
    assert target.read_text() == "latest"
    target.write_text("own", encoding="utf-8")
    artifacts.fetch(trial, study._storage, target)
    assert target.read_text() == "own"


def test_what_is_not_in_the_store_is_told(study, tmp_path):
    artifacts = Artifacts(str(tmp_path / "store"))
    _, trial = handed_over(artifacts, study, tmp_path)
    other = Artifacts(str(tmp_path / "another machine's"))
    for store, name in ((artifacts, "other.json"), (other, "plan.json")):
        with pytest.raises(StorageError, match=f"{name} is not in the artifacts at .*; all machines have to see the"):
            store.fetch(trial, study._storage, tmp_path / name)
    assert not (tmp_path / "plan.json").exists()


def test_only_folders_and_s3_are_stores_and_a_file_is_neither(tmp_path):
    with pytest.raises(InputError, match=r"artifacts is 'ftp://ann:\*\*\*@host/a'; give a folder, or s3://bucket"):
        Artifacts("ftp://ann:secret@host/a")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match=r"cannot make the artifacts' folder .*file: File exists"):
        Artifacts(str(tmp_path / "file"))


class _Bucket(BaseHTTPRequestHandler):
    """As much of S3 as it takes: objects are put and got by their path."""

    objects: dict[str, bytes] = {}

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding", "").startswith("aws-chunked"):
            # Each chunk is its length in hexadecimal, a line end, itself and a line end; the last is empty.
            length, _, rest = content.partition(b"\r\n")
            content = rest[: int(length.split(b";")[0], 16)]
        self.objects[self.path] = content
        self._answer(200)

    def do_GET(self):
        found = self.objects.get(self.path)
        self._answer(404 if found is None else 200, found or b"")

    def _answer(self, status, content=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def test_a_bucket_is_a_store_too(study, tmp_path, monkeypatch):
    pytest.importorskip("boto3", reason="boto3 is not installed: artifacts in S3 are untested")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    try:
        target, trial = handed_over(Artifacts("s3://plans"), study, tmp_path)
        assert target.read_text() == "latest"
        assert all(path.startswith("/plans/") for path in _Bucket.objects)
        with pytest.raises(StorageError, match=r"other\.json is not in the artifacts at s3://plans"):
            Artifacts("s3://plans").fetch(trial, study._storage, tmp_path / "other.json")
    finally:
        server.shutdown()
        server.server_close()
