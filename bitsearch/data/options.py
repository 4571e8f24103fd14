"""Checks of the options that several data sets take."""

import math
from pathlib import Path
from typing import Any

from bitsearch.data.data_set import DataSet
from bitsearch.errors import InputError

MAX_SIZE_PIXELS = 4096
"""Largest side of an image, in pixels."""
MAX_FRAMES = 1000
"""Largest number of frames of a recording."""


def check_options(name: str, **options: Any) -> None:
    """Raise InputError, which says what is allowed, unless every option of the data set ``name`` is valid."""
    for option, value in options.items():
        is_valid, description = _CHECKS[option]
        if not is_valid(value):
            raise InputError(f"{name}: {option} is {value!r}; give {description}")


def find_root(data_set: DataSet, root: Any, contents: str) -> Path:
    """``root`` as a path; InputError, which names the folder's ``contents``, if there is none."""
    if not isinstance(root, str) or not root:
        raise InputError(
            f"{data_set.name}: no root given; set root in data_options to the folder that holds {contents}, "
            'as in data_options = { root = "path/to/data" } or --set data_options.root=path/to/data'
        )
    try:
        return Path(root).expanduser()
    except RuntimeError as error:
        raise InputError(f"{data_set.name}: cannot read the folder {root!r} ({error}); give another as root") from error


def _whole_number(smallest: int, largest: float = math.inf) -> Any:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and smallest <= value <= largest


def _optional(is_valid: Any) -> Any:
    return lambda value: value is None or is_valid(value)


_CHECKS = {
    "features": (lambda value: value in ("mel", "events"), "'mel' or 'events'"),
    "split": (lambda value: value in ("official", "speaker"), "'official' or 'speaker'"),
    "frame_ms": (_whole_number(1, 1000), "a whole number of milliseconds from 1 to 1000"),
    "bands": (_whole_number(1, 64), "a whole number of frequency bands from 1 to 64"),
    "frames": (_whole_number(1, MAX_FRAMES), f"a whole number of time bins from 1 to {MAX_FRAMES}"),
    "split_by": (lambda value: value in ("number", "time"), "'number' or 'time'"),
    "size": (_optional(_whole_number(1, MAX_SIZE_PIXELS)), f"a whole number of pixels from 1 to {MAX_SIZE_PIXELS}"),
    "limit": (_optional(_whole_number(2)), "a whole number of samples a class, at least 2"),
    "validation_share": (lambda value: isinstance(value, float) and 0 < value < 1, "a share above 0 and below 1"),
    "augment": (lambda value: isinstance(value, bool), "true or false"),
    "workers": (_optional(_whole_number(0, 1024)), "a whole number of processes, 0 for none besides the main one"),
}
