"""Plans and weights of a study that many machines work on, in a store that all of them reach."""

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from optuna import Study, Trial
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from bitsearch.errors import InputError, StorageError, redact
from bitsearch.files import write_whole

# Optuna marks its artifacts experimental; a user of bitsearch can do nothing about that.
warnings.filterwarnings("ignore", category=ExperimentalWarning, module=r"(optuna|bitsearch)\.")


class Artifacts:
    """Optuna's artifact store at a location.

    Args:
        location: a folder that all machines see, or ``s3://bucket``; the bucket's keys and endpoint come from the
            environment, as boto3 reads them.

    Raises:
        InputError: boto3 is not installed, or the location is neither.
        StorageError: the folder cannot be made.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        kind, separator, address = location.partition("://")
        self._store: Any
        if not separator:
            try:
                Path(location).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(
                    f"cannot make the artifacts' folder {location}: {error.strerror or error}"
                ) from error
            self._store = FileSystemArtifactStore(location)
        elif kind == "s3":
            if find_spec("boto3") is None:
                raise InputError("artifacts in S3 need boto3: pip install 'bitsearch[s3]'")
            from optuna.artifacts import Boto3ArtifactStore

            self._store = Boto3ArtifactStore(address.rstrip("/"))
        else:
            raise InputError(f"artifacts is {redact(location)!r}; give a folder, or s3://bucket")

    def upload(self, owner: Trial | Study, *paths: Path) -> None:
        """Keep files for a trial or the study, by their names."""
        for path in paths:
            try:
                upload_artifact(artifact_store=self._store, file_path=str(path), study_or_trial=owner)
            except OSError as error:
                raise StorageError(f"cannot write {path.name} to {self.location}: {error.strerror or error}") from error

    def fetch(self, owner: FrozenTrial | Study, storage: BaseStorage, *paths: Path) -> None:
        """Get files that were uploaded under these names, the latest of each; those that are there are left alone.

        Raises:
            StorageError: one is not in the store.
        """
        missing = [path for path in paths if not path.is_file()]
        if not missing:
            return
        # Names are compared, never followed: a database may hold any.
        ids = {meta.filename: meta.artifact_id for meta in get_all_artifact_meta(owner, storage=storage)}
        for path in missing:
            try:
                with self._store.open_reader(ids[path.name]) as reader:
                    write_whole(path, reader.read())
            except (KeyError, ArtifactNotFound, OSError) as error:
                raise StorageError(
                    f"{path.name} is not in the artifacts at {self.location}; all machines have to see the same"
                ) from error
