"""Reading text files with one-line errors, writing files atomically, and tables as CSV."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bitsearch.errors import InputError, StorageError, printable

if TYPE_CHECKING:
    import pandas as pd

DRAFT_PREFIX = ".draft-"
"""First characters of the names of unfinished files; a killed process may leave one behind."""


def read_text(path: Path, kind: str) -> str:
    """The text of a file; InputError, which names the ``kind`` of file, if it cannot be read."""
    try:
        return read_bytes(path, kind).decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read the {kind} {path}: {error}") from error


def read_bytes(path: Path, kind: str) -> bytes:
    """The content of a file; InputError, which names the ``kind`` of file, if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"no {kind} at {path}; give the path of an existing file") from error
    except OSError as error:
        raise InputError(f"cannot read the {kind} {path}: {error.strerror or error}") from error
    except ValueError as error:  # a path with a null character
        raise InputError(f"cannot read the {kind} {str(path)!r}: {error}") from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path`` so that a reader sees the old file or the new one, never half of it.

    Raises:
        StorageError: the file cannot be written; an old file at ``path`` is unchanged.
    """
    if not path.name:
        # An empty name is the working directory's, and no draft has a name beside it.
        raise StorageError(f"cannot write {path}: it is a folder; give the name of a file")
    draft = path.with_name(f"{DRAFT_PREFIX}{path.name}.{os.getpid()}")
    try:
        # Nothing is written through a file or a link that somebody has put there.
        draft.unlink(missing_ok=True)
        with draft.open("xb") as file:
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


def refuse_links(folder: Path) -> None:
    """InputError if ``folder`` holds, at any depth, what is neither a file nor a folder, such as a link or a pipe.

    Somebody else's folder may link to any file: writing a figure would overwrite it, publishing a page would copy it.
    The folder's own path may be a link. A folder that is not there holds none.
    """
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root, name)
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:  # an unfinished file that its writer has renamed meanwhile
                continue
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                kind = "a link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
                raise InputError(
                    f"{path} is {kind}, and {folder} may hold files and folders only; put a copy in its place, or "
                    "delete it"
                )


def csv_text(table: "pd.DataFrame") -> str:
    """A table as CSV, without its index, whose text no spreadsheet computes.

    A cell or a title that starts like a formula, as a layer's name in somebody's plan may, gets a quote in front, which
    spreadsheets take for the mark of text; control characters are escaped. Numbers are written as they are.
    Source: OWASP, CSV Injection.
    """
    titles = {column: _plain_cell(column) for column in table.columns}
    return table.map(_plain_cell).rename(columns=titles).to_csv(index=False)


def _plain_cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
