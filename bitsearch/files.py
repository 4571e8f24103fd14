"""Reading text files with one-line errors, and writing files atomically."""

import os
from contextlib import suppress
from pathlib import Path

from bitsearch.errors import InputError, StorageError

DRAFT_PREFIX = ".draft-"
"""First characters of the names of unfinished files; a killed process may leave one behind."""


def read_text(path: Path, kind: str) -> str:
    """The text of a file; InputError, which names the ``kind`` of file, if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"no {kind} at {path}; give the path of an existing file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the {kind} {path}: {error}") from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path`` so that a reader sees the old file or the new one, never half of it.

    Raises:
        StorageError: the file cannot be written; an old file at ``path`` is unchanged.
    """
    draft = path.with_name(f"{DRAFT_PREFIX}{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _make_rename_last(path.parent)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def _make_rename_last(folder: Path) -> None:
    # Until the folder itself is on the disk, a power cut may bring the old file back. Windows cannot open folders.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
