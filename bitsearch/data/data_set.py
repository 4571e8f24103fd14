"""What there is to know about a data set that has a name: where it comes from, which files it is, what it holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bitsearch.data.splits import Splits
from bitsearch.errors import InputError

SHOWN = 3
"""At most so many files are listed in a message."""


@dataclass(frozen=True)
class DataSet:
    """A data set that has a name; an entry of :data:`bitsearch.data.DATA_SETS`."""

    name: str
    factory: Callable[..., Splits]
    """Takes ``split_seed`` and the data set's options as keywords; where there are files, ``root`` is one of them."""
    summary: str
    """What it is, in a few words."""
    shape: str
    """Of one input, to be read: ``3×32×32``."""
    classes: int | None = None
    """None where the files say."""
    counts: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)
    """True number of samples, in all or of every class, of the official parts: ``train``, which validation is taken
    from, and ``test``; or ``all`` where there are no official parts. Empty where the files say."""
    download: str = ""
    """What to download: archives or files."""
    source: str = ""
    """The official page to download it from."""
    unpack: bool = True
    """The download is an archive, to be unpacked in ``root``."""
    files: Mapping[str, str] = field(default_factory=dict)
    """What then lies in ``root``, by its path there, with its published MD5 sum or an empty text. Empty where nothing
    has to be downloaded."""

    def missing(self, path: Path, root: Path) -> InputError:
        """The error that says that ``path`` is not there, and what to download, from where, into which folder."""
        more = f" and {len(self.files) - SHOWN} more" if len(self.files) > SHOWN else ""
        return InputError(
            f"{self.name}: no {str(path)!r}; download {'and unpack ' if self.unpack else ''}{self.download} from "
            f"{self.source}, so that {str(root)!r} holds {', '.join([*self.files][:SHOWN])}{more}; or give another root"
        )
