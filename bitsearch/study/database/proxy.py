"""Optuna's gRPC proxy: one process that holds the database's connections, for workers too many to have their own.

Optuna's own client sends no heartbeats. This one does: as an attribute of the trial, which whoever holds the database
itself looks at (:class:`bitsearch.study.database.storage.RetryingStorage`).
"""

import itertools
import re
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import wraps
from importlib.util import find_spec
from typing import Any

from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import GrpcStorageProxy, RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState

from bitsearch.errors import InputError
from bitsearch.study.database.optuna_internals import Heartbeat, make_grpc_server
from bitsearch.study.database.storage import (
    BEAT,
    HEARTBEAT_SECONDS,
    PATIENCE,
    RetryingStorage,
    database_url,
    open_storage,
    retry_transient,
)
from bitsearch.study.database.study_cache import cached

# Optuna marks its proxy experimental; a user of bitsearch can do nothing about that.
warnings.filterwarnings("ignore", category=ExperimentalWarning, module=r"(optuna|bitsearch)\.")

SCHEME = "grpc://"
THREADS = 16
"""Calls that the proxy answers at once, each with a connection to the database."""


def open_shared(address: str) -> "RetryingStorage | ProxiedStorage":
    """A study's storage as a worker reaches it: the database, or ``grpc://host:port``, a proxy in front of it.

    Raises:
        InputError: neither, or what it takes is not installed.
        StorageError: nobody answers there.
    """
    if not address.startswith(SCHEME):
        return open_storage(database_url(address))
    host, separator, port = address.removeprefix(SCHEME).rstrip("/").rpartition(":")
    if not (separator and host and re.fullmatch(r"\d{1,5}", port) and 0 < int(port) < 2**16):
        raise InputError(f"storage is {address!r}; give a proxy as grpc://host:port, with a port from 1 to 65535")
    _require_grpc()
    return ProxiedStorage(host, int(port))


def serve(storage: str, host: str, port: int, ready: Callable[[], None] = lambda: None) -> None:
    """Answer workers until the process is ended; ``ready`` is called once that has begun.

    Raises:
        InputError: no such database, a port that is taken, or no grpc.
    """
    url = database_url(storage)
    _require_grpc()
    with closing(open_storage(url, THREADS)) as database, ThreadPoolExecutor(THREADS) as threads:
        try:
            server = make_grpc_server(cached(database), host, port, threads)
        except RuntimeError as error:
            raise InputError(f"cannot listen on {host}:{port}; give another --host or --port") from error
        server.start()
        ready()
        try:
            server.wait_for_termination()
        finally:
            server.stop(grace=None)


def _require_grpc() -> None:
    if find_spec("grpc") is None:
        raise InputError("a proxy needs gRPC: pip install 'bitsearch[grpc]'")


def _with_storage_errors(method: Callable[..., Any]) -> Any:
    """The method, whose failures on the way are storage failures."""

    @wraps(method)
    def called(storage: Any, *args: Any, **kwargs: Any) -> Any:
        import grpc

        try:
            return method(storage, *args, **kwargs)
        except grpc.RpcError as error:
            # Its text names channels and time stamps.
            raise StorageInternalError(f"{error.code().name.lower()}: {error.details()}") from None

    return called


class ProxiedStorage(GrpcStorageProxy, Heartbeat):
    """The database behind a proxy; waits for one that is away, as the storage itself does."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host=host, port=port)
        self.url, self.patience = f"{SCHEME}{host}:{port}", PATIENCE
        self._beat = itertools.count(1)

    def record_heartbeat(self, trial_id: int) -> None:
        """A sign of life, which may be missed."""
        import grpc

        try:
            GrpcStorageProxy.set_trial_system_attr(self, trial_id, BEAT, next(self._beat))
        except (grpc.RpcError, UpdateFinishedTrialError, KeyError):
            return

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        """None: whoever holds the database looks after them."""
        return []

    def get_heartbeat_interval(self) -> int:
        """In seconds."""
        return HEARTBEAT_SECONDS

    def get_heartbeat_stale_trial_callback(self) -> RetryHeartbeatStaleTrialCallback:
        """Queues a lost trial again."""
        return RetryHeartbeatStaleTrialCallback()

    def _set_state(self, trial_id: int, state: TrialState, values: Any, tried: list[None]) -> bool:
        tried.append(None)
        try:
            return bool(_with_storage_errors(GrpcStorageProxy.set_trial_state_values)(self, trial_id, state, values))
        except UpdateFinishedTrialError:
            if len(tried) > 1 and self.get_trial(trial_id).state == state:
                return True
            raise

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        """As Optuna's; the second attempt at what the first has done is fine."""
        return bool(retry_transient(ProxiedStorage._set_state)(self, trial_id, state, values, []))


for _name in (
    "create_new_study",
    "create_new_trial",
    "get_all_studies",
    "get_all_trials",
    "get_study_directions",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_system_attrs",
    "get_study_user_attrs",
    "get_trial",
    "get_trial_id_from_study_id_trial_number",
    "set_study_system_attr",
    "set_study_user_attr",
    "set_trial_param",
    "set_trial_system_attr",
    "set_trial_user_attr",
):
    setattr(ProxiedStorage, _name, retry_transient(_with_storage_errors(getattr(GrpcStorageProxy, _name))))
