"""What the networks of a run got right of a split: a safetensors file, a row a network."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from bitsearch.errors import InputError
from bitsearch.files import write_whole

Rows = dict[str, NDArray[Any]]
"""By the name of the weights, ``trial-0004``: which samples of a split were right, bool ``[N]``; or of other scores
than accuracy the score and its bootstrap replicates, float64."""


def record_rows(path: Path, table: Rows) -> None:
    """Write what the networks of a run got right of a split."""
    write_whole(path, save(table))


def read_rows(path: Path) -> Rows:
    """What :func:`record_rows` wrote; empty where a run of an earlier version did not keep it."""
    if not path.is_file():
        return {}
    try:
        table = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path} is not a safetensors file: {error}") from error
    shapes = {row.shape for row in table.values()}
    alike = all(row.dtype in (bool, float) and row.ndim == 1 and len(row) for row in table.values())
    if len(shapes) > 1 or not alike:
        raise InputError(f"{path} is not what a run wrote: its tensors must be bool or float64 [N], all of one length")
    return table
