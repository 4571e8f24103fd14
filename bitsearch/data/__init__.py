"""Data sets by name, each with a fixed train/validation/test split."""

from collections.abc import Callable, Mapping
from typing import Any

from bitsearch.data.digits import digits
from bitsearch.data.image_folder import image_folder
from bitsearch.data.splits import Splits, batches
from bitsearch.errors import InputError
from bitsearch.registry import build

DATA_SETS: dict[str, Callable[..., Splits]] = {"digits": digits, "image_folder": image_folder}


def load_data(name: str, options: Mapping[str, Any], *, split_seed: int) -> Splits:
    """The splits of a data set.

    Args:
        name: a key of :data:`DATA_SETS`, or ``package.module:name`` of a factory that takes ``split_seed`` and
            ``options`` as keywords and returns :class:`Splits`.

    Raises:
        InputError: no such data set, options it does not take, or a factory that returns something else.
    """
    splits = build(name, {"split_seed": split_seed, **options}, DATA_SETS, "data set")
    if not isinstance(splits, Splits):
        raise InputError(f"data set {name!r} returned {type(splits).__name__}; it must return bitsearch.data.Splits")
    return splits


__all__ = ["DATA_SETS", "Splits", "batches", "load_data"]
