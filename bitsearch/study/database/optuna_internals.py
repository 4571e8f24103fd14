"""What is used of Optuna's private parts, in one place; written against Optuna 5.0.

Optuna's public API neither tells a study's storage nor the number of a trial that is added, and lets nobody cache
trials or beat for them through a proxy. Besides what is named here, ``storage.py`` and ``study_cache.py`` override
methods of ``RDBStorage`` and ``_CachedStorage`` that begin with an underscore.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from optuna import Study
from optuna.storages import BaseStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.trial import FrozenTrial, Trial, TrialState

CachedStorage = _CachedStorage
"""Remembers finished trials of an ``RDBStorage``."""

Heartbeat = BaseHeartbeat
"""What a storage is that misses workers which have died."""


def make_grpc_server(storage: BaseStorage, host: str, port: int, threads: ThreadPoolExecutor) -> Any:
    """A server that stands between a storage and those who reach it by gRPC, which has to be installed."""
    from optuna.storages._grpc.server import make_server

    return make_server(storage, host, port, threads)


def storage_of(study: Study) -> BaseStorage:
    """Where a study is stored."""
    return study._storage


def stored_trial(study: Study, trial: Trial | FrozenTrial) -> FrozenTrial:
    """A trial as its storage has it now."""
    return study._storage.get_trial(trial._trial_id)


def set_trial_state(study: Study, trial: Trial | FrozenTrial, state: TrialState) -> None:
    """Set a trial's state, such as back to waiting."""
    study._storage.set_trial_state_values(trial._trial_id, state=state)


def add_trial(study: Study, trial: FrozenTrial) -> FrozenTrial:
    """Add a trial and return it as stored; ``Study.add_trial`` does not tell its number."""
    return study._storage.get_trial(study._storage.create_new_trial(study._study_id, template_trial=trial))
