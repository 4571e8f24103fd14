"""What every search begins with: its run folder, its study and its processes, each held until the search ends."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import optuna

from bitsearch.errors import InputError
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.interruption import Stop
from bitsearch.runs.resume import check_resumable, lock_run_folder
from bitsearch.runs.run_settings import RunSettings
from bitsearch.study.database.storage import open_storage, warn_of_network_file_system
from bitsearch.study.processes import ProcessGroup
from bitsearch.study.study import STUDY_NAME, open_study
from bitsearch.train.fabric import make_fabric
from bitsearch.train.task import Task


def make_processes(task: Task, settings: RunSettings, stop: Stop) -> ProcessGroup:
    """This process's hold on all of a run, which trains on the task's device."""
    fabric = make_fabric(task.device, settings.space.training.precision)
    return ProcessGroup(task, settings.budgets, settings.seed, fabric, stop)


def make_folder(settings: RunSettings, out: str | Path | None, reports: str | Path) -> RunFolder:
    """The folder of a run that begins or goes on: ``out``, or a new one in ``reports``.

    Raises:
        InputError: no path, or it holds a run of another search.
        StorageError: the disk.
    """
    for name, path in {"out": out, "reports": reports}.items():
        if path is not None and not isinstance(path, str | os.PathLike):
            raise InputError(f"{name} is {path!r}; give the path of a folder")
    folder = RunFolder(Path(out)) if out is not None else RunFolder.new(Path(reports), settings.space.name)
    check_resumable(folder, settings)
    folder.make()
    warn_of_network_file_system(folder.path)
    return folder


@contextmanager
def held_study(folder: RunFolder, url: str | None = None, name: str | None = None) -> Iterator[optuna.Study]:
    """The study of a run, whose folder no other process may use meanwhile.

    Args:
        folder: made.
        url: of the database that it is in; the folder's own file by default.
        name: its name there.

    Raises:
        InputError: another process has the run folder open.
        StorageError: the database.
    """
    # What fails is recorded and told; Optuna would print a traceback as well.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with lock_run_folder(folder), closing(open_storage(url or folder.storage_url)) as database:
        yield open_study(database, name or STUDY_NAME)
