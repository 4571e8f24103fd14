"""Files that are read with a message, and written whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from bitsearch.errors import InputError, StorageError

DRAFT = ".draft-"
"""How the names of files start that are not whole yet; a kill may leave one behind."""


def read_text(path: Path, what: str) -> str:
    """The text of a file; InputError, naming ``what`` it was to be, if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"no {what} at {path}; give the path of an existing file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the {what} {path}: {error}") from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path`` so that a reader sees the old file or the new one, never half of it.

    Raises:
        StorageError: it cannot be written; what was there before is as it was.
    """
    draft = path.with_name(f"{DRAFT}{path.name}.{os.getpid()}")
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
