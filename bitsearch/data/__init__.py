"""Data sets by name, each with a fixed train/validation/test split."""

from collections.abc import Mapping
from typing import Any

from bitsearch.data.checks import checked_splits
from bitsearch.data.data_set import DataSet
from bitsearch.data.sets.cifar import CIFAR10, CIFAR100
from bitsearch.data.sets.digits import DIGITS
from bitsearch.data.sets.digits_events import DIGITS_EVENTS
from bitsearch.data.sets.event_camera import CAMERAS
from bitsearch.data.sets.fsdd import FSDD
from bitsearch.data.sets.image_folder import IMAGE_FOLDER
from bitsearch.data.sets.imagenet import IMAGENET
from bitsearch.data.sets.mnist import FASHION_MNIST, MNIST
from bitsearch.data.sets.shd import SHD
from bitsearch.data.splits import Splits, batches
from bitsearch.data.targets import CLASS, Targets
from bitsearch.registry import build

_IMAGES = (DIGITS, MNIST, FASHION_MNIST, CIFAR10, CIFAR100, IMAGENET, IMAGE_FOLDER)
_EVENTS = (DIGITS_EVENTS, *(camera.entry for camera in CAMERAS.values()), SHD, FSDD)

DATA_SETS: dict[str, DataSet] = {entry.name: entry for entry in _IMAGES + _EVENTS}


def load_data(name: str, options: Mapping[str, Any], *, split_seed: int, targets: Targets = CLASS) -> Splits:
    """The splits of a data set.

    Args:
        name: a key of :data:`DATA_SETS`, or ``package.module:name`` of a factory. It returns :class:`Splits`, or what
            :func:`bitsearch.data.checks.checked_splits` makes into one.
        options: keywords that it has to take.
        split_seed: it gets this where it takes a keyword of that name.
        targets: what those of the samples are to be.

    Raises:
        InputError: no such data set, options it does not take, or a factory that fails or returns what cannot be
            trained on.

    >>> splits = bitsearch.load_data("digits", {}, split_seed=0)
    >>> splits.input_shape, splits.classes, len(splits.validation)
    ((1, 8, 8), 10, 360)
    """
    factories = {key: entry.factory for key, entry in DATA_SETS.items()}
    made = build(name, options, factories, "data set", {"split_seed": split_seed})
    return checked_splits(made, name, targets, users_own=name not in DATA_SETS)


__all__ = ["DATA_SETS", "DataSet", "Splits", "batches", "load_data"]
