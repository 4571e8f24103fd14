"""Who may go on with a run folder: one process at a time, with the search that is in it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

from filelock import FileLock, Timeout

from bitsearch.errors import InputError, StorageError
from bitsearch.files import refuse_links
from bitsearch.runs.folder import RunFolder
from bitsearch.runs.run_settings import RunSettings


@contextmanager
def lock_run_folder(folder: RunFolder) -> Iterator[None]:
    """Inside, no other process writes to the run folder."""
    lock = FileLock(folder.path / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"another process is running the search in {folder.path}; wait for it, or give another --out"
        ) from error
    except OSError as error:
        raise StorageError(f"cannot write to the run folder {folder.path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def check_resumable(folder: RunFolder, settings: RunSettings) -> None:
    """InputError if the folder holds another search, something else, or a link."""
    refuse_links(folder.path)
    if not folder.settings_file.is_file():
        if folder.path.is_dir() and any(folder.path.iterdir()) and not (folder.path / ".lock").is_file():
            raise InputError(f"{folder.path} is not empty and not a run folder; give a new or an empty folder")
        return
    if folder.settings.merged:
        raise InputError(
            f"{folder.path} was merged from {', '.join(folder.settings.merged)} and has no study to go on with; go on "
            "with one of these, and merge them again"
        )
    was, now = folder.settings.defining(), settings.defining()
    for name, value in now.items():
        if was[name] != value:
            difference = {
                "target": f"another hardware target, {folder.settings.target.name!r}",
                "space": f"another search space: {first_difference(was[name], value)}",
                "weights_sha256": "other weights to begin with",
                "own_training": (
                    "trials that are trained by code of its own; bitsearch.Study goes on with them"
                    if was[name]
                    else "trials that bitsearch.search trains"
                ),
                "calibration": _calibration_text(folder.settings, settings),
                "goal": f"the limits {folder.settings.request!r}, not {settings.request!r}",
                "sweep": f"the sweep {folder.settings.request!r}, not {settings.request!r}",
                "budgets": f"budget {folder.settings.request!r}, not {settings.request!r}",
            }.get(name, f"{name} {was[name]!r}, not {value!r}")
            raise InputError(
                f"{folder.path} holds a run with {difference}; give another --out, or what it was started with"
            )


def _calibration_text(was: RunSettings, now: RunSettings) -> str:
    if was.calibration is None:
        return "plans that are trained, not those of `bitsearch allocate`"
    if now.calibration is None:
        return "plans that `bitsearch allocate` calibrated, and no study to go on with"
    return f"another calibration: {first_difference(was.calibration.model_dump(), now.calibration.model_dump())}"


def first_difference(was: Any, now: Any, path: str = "") -> str:
    """The first setting that differs, and how."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in [*was, *now]:
            if name not in was or name not in now or was[name] != now[name]:
                return first_difference(was.get(name), now.get(name), f"{path}.{name}" if path else str(name))
    if isinstance(was, list) and isinstance(now, list):
        for index, (one, other) in enumerate(zip_longest(was, now)):
            if one != other:
                return first_difference(one, other, f"{path}[{index}]")
    return f"{path} is {_set_values(was)!r}, not {_set_values(now)!r}"


def _set_values(value: Any) -> Any:
    """Without what is None in tables."""
    if isinstance(value, Mapping):
        return {name: _set_values(part) for name, part in value.items() if part is not None}
    return value
