"""The entry of a named data set: its factory, its files and their source, its sample counts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bitsearch.data.splits import Splits
from bitsearch.errors import InputError

MAX_LISTED_FILES = 3
"""Number of files that a message lists at most."""


@dataclass(frozen=True)
class DataSet:
    """A data set that has a name; an entry of :data:`bitsearch.data.DATA_SETS`."""

    name: str
    factory: Callable[..., Splits]
    """Takes ``split_seed`` and the data set's options as keywords; ``root`` is an option of a data set with files."""
    summary: str
    """A noun phrase that describes the data set."""
    shape: str
    """Shape of one input as text: ``3×32×32``."""
    classes: int | None = None
    """Number of classes; None if the files decide it."""
    counts: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)
    """Published number of samples, in all or of every class, of the official parts: ``train``, from which validation is
    split, and ``test``; or ``all`` without official parts. Empty if the files decide it."""
    download: str = ""
    """The archives or files to download."""
    source: str = ""
    """The official page to download it from."""
    unpack: bool = True
    """The download is an archive, to be unpacked in ``root``."""
    files: Mapping[str, str] = field(default_factory=dict)
    """MD5 sum of every unpacked file, by its path in ``root``; an empty text if none is published. Empty without a
    download."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """MD5 sum of what a compressed file of ``files`` holds, by the same path: other packers write other headers. Such
    files may lie unpacked, and in ``root`` itself, where packages of systems put them."""

    def locate(self, file: str, root: Path) -> Path:
        """Where ``file``, a key of ``files``, lies; ``root / file`` if it is nowhere."""
        path = root / file
        if file not in self.contents:
            return path
        places = (path, path.with_suffix(""), root / path.name, (root / path.name).with_suffix(""))
        return next((place for place in places if place.is_file()), path)

    def missing_file_error(self, path: Path, root: Path) -> InputError:
        """The error for a ``path`` that does not exist; its message says what to download, and into which folder."""
        suffix = f" and {len(self.files) - MAX_LISTED_FILES} more" if len(self.files) > MAX_LISTED_FILES else ""
        return InputError(
            f"{self.name}: no {str(path)!r}; download {'and unpack ' if self.unpack else ''}{self.download} from "
            f"{self.source}, so that {str(root)!r} holds {', '.join([*self.files][:MAX_LISTED_FILES])}{suffix}; "
            "or give another root"
        )
