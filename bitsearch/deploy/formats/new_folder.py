"""A folder that is written whole or not at all, for the formats that are more than one file."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bitsearch.errors import InputError


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A draft to write into, which becomes ``path`` at the end; nothing is left of it after an error.

    Raises:
        InputError: ``path`` has something in it, or it cannot be written.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} is there already, and is never overwritten; give a new folder with --output")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        # A temporary folder is its owner's alone.
        draft.chmod(0o777 & ~_umask())
        yield draft
        # Fails where another has put something there meanwhile.
        draft.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
