"""Options that data sets have in common."""

import math
from pathlib import Path
from typing import Any

from bitsearch.data.data_set import DataSet
from bitsearch.errors import InputError

MAX_SIZE = 4096
"""Of an image's side, in pixels."""
MAX_FRAMES = 1000
"""Of a recording."""


def check_options(name: str, **options: Any) -> None:
    """InputError, which says what is allowed, unless every option of the data set ``name`` is of its kind."""
    for option, value in options.items():
        fits, allowed = _CHECKS[option]
        if not fits(value):
            raise InputError(f"{name}: {option} is {value!r}; give {allowed}")


def find_root(data_set: DataSet, root: Any, holds: str) -> Path:
    """``root`` as a path; InputError, which says what it ``holds``, if there is none."""
    if not isinstance(root, str) or not root:
        raise InputError(
            f"{data_set.name}: no root given; set root in data_options to the folder that holds {holds}, "
            'as in data_options = { root = "path/to/data" } or --set data_options.root=path/to/data'
        )
    try:
        return Path(root).expanduser()
    except RuntimeError as error:
        raise InputError(f"{data_set.name}: cannot read the folder {root!r} ({error}); give another as root") from error


def _whole(least: int, most: float = math.inf) -> Any:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _or_none(fits: Any) -> Any:
    return lambda value: value is None or fits(value)


_CHECKS = {
    "frames": (_whole(1, MAX_FRAMES), f"a whole number of time bins from 1 to {MAX_FRAMES}"),
    "split_by": (lambda value: value in ("number", "time"), "'number' or 'time'"),
    "size": (_or_none(_whole(1, MAX_SIZE)), f"a whole number of pixels from 1 to {MAX_SIZE}"),
    "limit": (_or_none(_whole(2)), "a whole number of samples a class, at least 2"),
    "validation_share": (lambda value: isinstance(value, float) and 0 < value < 1, "a share above 0 and below 1"),
    "augment": (lambda value: isinstance(value, bool), "true or false"),
    "workers": (_or_none(_whole(0, 1024)), "a whole number of processes, 0 for none besides the main one"),
}
