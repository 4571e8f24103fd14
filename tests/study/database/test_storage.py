import pytest

from bitsearch.errors import InputError, StorageError
from bitsearch.study.database.proxy import open_shared
from bitsearch.study.database.storage import (
    database_url,
    network_file_system,
    open_storage,
    warn_of_network_file_system,
)

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
proc /proc proc rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/ann/local\\040disk xfs rw 0 0
me@far: /mnt/far fuse.sshfs rw 0 0
"""


def test_a_postgresql_url_gets_its_driver_and_keeps_its_password():
    pytest.importorskip("psycopg")
    assert database_url("postgresql://ann:a%40b@host:1/db?sslmode=require") == (
        "postgresql+psycopg://ann:a%40b@host:1/db?sslmode=require"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("no url", "storage is 'no url'; give a URL such as postgresql://user@host/database"),
        ("sqlite:///a.db", "SQLite serves one process"),
        ("grpc://host:13000", "A proxy is for workers"),
        ("mysql://ann:secret@host/db", r"storage is 'mysql://ann:\*\*\*@host/db'; allowed: postgresql://"),
    ],
)
def test_other_storages_are_refused_without_their_password(given, said):
    with pytest.raises(InputError, match=said) as refused:
        database_url(given)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("given", ["grpc://", "grpc://host", "grpc://host:x", "grpc://:1"])
def test_a_proxys_address_is_a_host_and_a_port(given):
    with pytest.raises(InputError, match=r"give a proxy as grpc://host:port"):
        open_shared(given)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/ann/run", "nfs4"),
        ("/home/ann/local disk/run", None),
        ("/mnt/far/run", "fuse.sshfs"),
        ("/mnt/farther", None),
        ("/tmp/run", None),
    ],
)
def test_network_file_systems_are_told_by_the_mount_that_a_path_is_on(path, kind, tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS, encoding="utf-8")
    assert network_file_system(path, mounts) == kind
    assert network_file_system(path, tmp_path / "none") is None


def test_sqlite_on_a_network_file_system_is_warned_about(tmp_path):
    (tmp_path / "mounts").write_text(MOUNTS, encoding="utf-8")
    with pytest.warns(UserWarning, match=r"/home/ann is on a network file system \(nfs4\).* --storage postgresql://"):
        warn_of_network_file_system("/home/ann", tmp_path / "mounts")
    warn_of_network_file_system("/tmp", tmp_path / "mounts")


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "study.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match=r"cannot open .* sqlite:.*study\.db: file is not a database"):
        open_storage(f"sqlite:///{tmp_path / 'study.db'}")
