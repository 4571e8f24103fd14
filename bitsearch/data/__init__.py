"""Data sets by name, each with a fixed train/validation/test split."""

from collections.abc import Callable, Mapping
from typing import Any

from bitsearch.data.checks import checked_splits
from bitsearch.data.digits import digits
from bitsearch.data.image_folder import image_folder
from bitsearch.data.splits import Splits, batches
from bitsearch.registry import build

DATA_SETS: dict[str, Callable[..., Splits]] = {"digits": digits, "image_folder": image_folder}


def load_data(name: str, options: Mapping[str, Any], *, split_seed: int) -> Splits:
    """The splits of a data set.

    Args:
        name: a key of :data:`DATA_SETS`, or ``package.module:name`` of a factory. It returns :class:`Splits`, or what
            :func:`bitsearch.data.checks.checked_splits` makes into one.
        options: keywords that it has to take.
        split_seed: it gets this where it takes a keyword of that name.

    Raises:
        InputError: no such data set, options it does not take, or a factory that fails or returns what cannot be
            trained on.
    """
    return checked_splits(build(name, options, DATA_SETS, "data set", {"split_seed": split_seed}), name)


__all__ = ["DATA_SETS", "Splits", "batches", "load_data"]
