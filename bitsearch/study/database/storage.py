"""Where a study is kept: SQLite in the run folder, or a database that many machines reach."""

import time
import warnings
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

from bitsearch.errors import InputError, StorageError, redact

HEARTBEAT_SECONDS = 30
"""Between two signs of life of a running trial; one without them for three times as long is lost, and taken again."""
BEAT = "bitsearch:beat"
"""A trial's attribute that a proxy's heartbeats change."""
PATIENCE = 600.0
"""Seconds for which a database server may be away."""
SQLITE_PATIENCE = 30.0
"""Seconds for which a SQLite file may be locked."""
STORAGE_ERRORS = (
    StorageInternalError,
    SQLAlchemyError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
)
"""What Optuna raises where a database is damaged, another program's, or of a version that it does not read."""
_PAUSES = (0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts; the last for all further ones."""
_AWAY = (
    *("locked", "connect", "closed", "terminat", "shutting down", "starting up"),
    *("timeout", "timed out", "recovery", "unavailable"),
)
"""Words of the drivers for what passes by itself."""
_CONNECTION = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    # Without it a cable that is cut is noticed after a quarter of an hour.
    "tcp_user_timeout": 30_000,
    # Statements prepared on a server's connection do not survive a pooler such as PgBouncer.
    "prepare_threshold": None,
}

MOUNTS = Path("/proc/mounts")
_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "sshfs", "lustre", "beegfs", "gpfs", "ceph", "glusterfs", "9p", "afs")


def database_url(address: str) -> str:
    """A storage URL as SQLAlchemy takes it: ``postgresql://`` gets its driver.

    Raises:
        InputError: no URL, another database, or a driver that is not installed; a password is not shown.
    """
    try:
        url = make_url(address)
    except ArgumentError as error:
        raise InputError(
            f"storage is {redact(address)!r}; give a URL such as postgresql://user@host/database"
        ) from error
    kind = url.get_backend_name()
    if kind != "postgresql":
        hint = {
            "sqlite": "SQLite serves one process, and lies in the run folder by default",
            "grpc": "A proxy is for workers; the run itself needs the database",
        }.get(kind, "Other databases are not tested")
        raise InputError(f"storage is {redact(address)!r}; allowed: postgresql://user@host/database. {hint}")
    if find_spec("psycopg") is None:
        raise InputError("PostgreSQL needs its driver: pip install 'bitsearch[postgres]'")
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def network_file_system(path: str | Path, mounts: Path = MOUNTS) -> str | None:
    """The kind of network file system that ``path`` is on; None on a local disk, or where nobody can tell."""
    if not mounts.is_file():
        return None
    best, file_system = "", ""
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        _, point, kind, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if len(point) >= len(best) and Path(path).absolute().is_relative_to(point):
            best, file_system = point, kind
    return file_system if any(name in file_system for name in _NETWORK_FILE_SYSTEMS) else None


def warn_of_network_file_system(path: str | Path, mounts: Path = MOUNTS) -> None:
    """SQLite's locks cannot be trusted there."""
    kind = network_file_system(path, mounts)
    if kind is not None:
        warnings.warn(
            f"{path} is on a network file system ({kind}), where SQLite may lose trials: "
            "take a folder on a local disk, or --storage postgresql://user@host/database",
            stacklevel=2,
        )


_OPENINGS = 5
"""Attempts to open a database whose tables others are making."""


def open_storage(url: str, connections: int = 2) -> "RetryingStorage":
    """The database, for so many threads at once; InputError or StorageError if it cannot be opened."""
    sqlite = url.startswith("sqlite")
    options: dict[str, Any] = {"pool_pre_ping": True}
    if not sqlite:
        options |= {"pool_size": connections, "max_overflow": 2, "connect_args": dict(_CONNECTION)}
    for attempt in range(_OPENINGS):
        try:
            return RetryingStorage(url, SQLITE_PATIENCE if sqlite else PATIENCE, options)
        except (StorageInternalError, SQLAlchemyError) as error:
            # Of several processes that make an empty database's tables at once, all but one are told that they exist.
            if isinstance(error, IntegrityError | ProgrammingError) and attempt < _OPENINGS - 1:
                time.sleep(0.2)
                continue
            raise StorageError(f"cannot open the study's storage {redact(url)}: {reason(error)}") from error
    raise AssertionError("the last attempt returns or raises")


def reason(error: BaseException) -> str:
    """What the database's driver said, in one line, without the statement and its values."""
    while isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig
    return redact(" ".join(str(error).split()) or type(error).__name__)


def _passes(error: BaseException) -> bool:
    """Whether it may be gone after a while."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, DBAPIError) and cause.connection_invalidated:
        return True
    return any(word in reason(error).lower() for word in _AWAY)


def retry_transient(method: Callable[..., Any]) -> Any:
    """The method, tried again while the server is away; StorageError once that has taken too long."""

    @wraps(method)
    def attempts(storage: Any, *args: Any, **kwargs: Any) -> Any:
        start, tries = time.monotonic(), 0
        while True:
            try:
                return method(storage, *args, **kwargs)
            except (StorageInternalError, SQLAlchemyError) as error:
                waited = time.monotonic() - start
                if not _passes(error) or waited > storage.patience:
                    after = f" (for {waited:.0f} s)" if tries else ""
                    raise StorageError(
                        f"the study's storage {redact(storage.url)} fails{after}: {reason(error)}; "
                        "what was saved is kept: once that is mended, the same command goes on"
                    ) from error
                if tries == 2:
                    warnings.warn(
                        f"the study's storage is away ({reason(error)}); waiting for it, "
                        f"{storage.patience:.0f} s at most",
                        stacklevel=2,
                    )
            time.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1

    return attempts


class RetryingStorage(RDBStorage):
    """Optuna's storage in a database, which outlives a restart of the server and a network that is away for a while.

    A connection may be cut after the server has done what it was asked, before it could say so. Every retried call is
    therefore idempotent, or at worst leaves a trial that is later treated as lost.
    """

    def __init__(self, url: str, patience: float, engine_options: dict[str, Any]) -> None:
        self.patience = patience
        self._beats: dict[int, tuple[str | None, float]] = {}
        try:
            super().__init__(
                url,
                engine_kwargs=engine_options,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=3 * HEARTBEAT_SECONDS,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
        except SQLAlchemyError:
            if hasattr(self, "engine"):
                self.engine.dispose()
            raise

    def close(self) -> None:
        """Close all connections."""
        self.remove_session()
        self.engine.dispose()

    def record_heartbeat(self, trial_id: int) -> None:
        """A sign of life, which may be missed."""
        try:
            super().record_heartbeat(trial_id)
        except (StorageInternalError, SQLAlchemyError) as error:
            if not _passes(error):
                raise

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        """Trials whose heartbeat has stopped, be it that of a proxy, and those that were lost before their first."""
        stale = retry_transient(RDBStorage._get_stale_trial_ids)(self, study_id)
        now = time.monotonic()
        # The clock is this process's own: it looks whether a beat changes, not when it was.
        last = self._beats
        self._beats = {
            trial: (beat, last[trial][1] if trial in last and last[trial][0] == beat else now)
            for trial, beat in self._without_heartbeat(study_id)
        }
        assert self.grace_period is not None
        return [*stale, *(trial for trial, (_, since) in self._beats.items() if now - since > self.grace_period)]

    @retry_transient
    def _without_heartbeat(self, study_id: int) -> list[tuple[int, str | None]]:
        """The running trials that Optuna has no heartbeat of, each with its last one by a proxy."""
        query = sqlalchemy.text(
            "SELECT trials.trial_id, beats.value_json FROM trials"
            " LEFT JOIN trial_heartbeats ON trials.trial_id = trial_heartbeats.trial_id"
            " LEFT JOIN trial_system_attributes AS beats ON trials.trial_id = beats.trial_id AND beats.key = :beat"
            " WHERE trials.study_id = :study AND trials.state = 'RUNNING' AND trial_heartbeats.trial_id IS NULL"
        )
        with self.engine.connect() as connection:
            rows = connection.execute(query, {"study": study_id, "beat": BEAT})
            return [(int(trial), beat) for trial, beat in rows]

    @retry_transient
    def _set_state(self, trial_id: int, state: TrialState, values: Any, tried: list[None]) -> bool:
        tried.append(None)
        try:
            return super().set_trial_state_values(trial_id, state, values)
        except UpdateFinishedTrialError:
            if len(tried) > 1 and super().get_trial(trial_id).state == state:
                return True
            raise

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        """As Optuna's; the second attempt at what the first has done is fine."""
        done: bool = self._set_state(trial_id, state, values, [])
        return done

    create_new_study = retry_transient(RDBStorage.create_new_study)
    set_study_user_attr = retry_transient(RDBStorage.set_study_user_attr)
    set_study_system_attr = retry_transient(RDBStorage.set_study_system_attr)
    get_study_id_from_name = retry_transient(RDBStorage.get_study_id_from_name)
    get_study_name_from_id = retry_transient(RDBStorage.get_study_name_from_id)
    get_study_directions = retry_transient(RDBStorage.get_study_directions)
    get_study_user_attrs = retry_transient(RDBStorage.get_study_user_attrs)
    get_study_system_attrs = retry_transient(RDBStorage.get_study_system_attrs)
    get_all_studies = retry_transient(RDBStorage.get_all_studies)
    _create_new_trial = retry_transient(RDBStorage._create_new_trial)
    _set_trial_param = retry_transient(RDBStorage._set_trial_param)
    set_trial_user_attr = retry_transient(RDBStorage.set_trial_user_attr)
    set_trial_system_attr = retry_transient(RDBStorage.set_trial_system_attr)
    get_trial_id_from_study_id_trial_number = retry_transient(RDBStorage.get_trial_id_from_study_id_trial_number)
    get_trial = retry_transient(RDBStorage.get_trial)
    _get_trials = retry_transient(RDBStorage._get_trials)
