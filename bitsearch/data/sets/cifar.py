"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from the files of their Python version.

The files are pickles, and unpickling can run any code. The published files hold arrays, texts, numbers, lists and
dictionaries only, so the unpickler here allows nothing else, and no file can run code.
"""

import pickle  # nosec B403  only arrays are allowed
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitsearch.data.data_set import DataSet
from bitsearch.data.images import Crops, split_images
from bitsearch.data.options import check_options, find_root
from bitsearch.data.splits import Splits
from bitsearch.data.stratified import Part
from bitsearch.errors import InputError

SHAPE = (3, 32, 32)


def cifar10(
    *,
    split_seed: int = 0,
    root: str = "",
    validation_share: float = 0.1,
    limit: int | None = None,
    augment: bool = True,
) -> Splits:
    """CIFAR-10 from ``root/cifar-10-batches-py``; the official test part is the test split.

    Inputs ``[3, 32, 32]``, normalized with the channels' means and standard deviations over the training split; 184 MB
    in memory.

    Args:
        split_seed: fixes which images of the training part are for validation, and which a ``limit`` keeps.
        root: the folder; relative to the working directory.
        validation_share: share of every class of the training part that is held back for validation.
        limit: at most this many images a class of the training part (validation included) and of the test part.
        augment: shift training images by up to 4 pixels and mirror them, at random (He et al. 2016).

    Raises:
        InputError: an option of the wrong kind, a file that is not there or that holds something else.
    """
    check_options("cifar10", validation_share=validation_share, limit=limit, augment=augment)
    return _cifar(CIFAR10, root, split_seed, validation_share, limit, augment)


def cifar100(
    *,
    split_seed: int = 0,
    root: str = "",
    validation_share: float = 0.1,
    limit: int | None = None,
    augment: bool = True,
) -> Splits:
    """CIFAR-100, with its 100 fine classes, from ``root/cifar-100-python``; otherwise as :func:`cifar10`."""
    check_options("cifar100", validation_share=validation_share, limit=limit, augment=augment)
    return _cifar(CIFAR100, root, split_seed, validation_share, limit, augment)


CIFAR10 = DataSet(
    "cifar10",
    cifar10,
    "small colour photographs of animals and vehicles",
    shape="3×32×32",
    classes=10,
    counts={"train": (5000,) * 10, "test": (1000,) * 10},
    download="cifar-10-python.tar.gz",
    source="https://www.cs.toronto.edu/~kriz/cifar.html",
    files={
        "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
        "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
        "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
        "cifar-10-batches-py/batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
)

CIFAR100 = DataSet(
    "cifar100",
    cifar100,
    "small colour photographs of 100 kinds of things",
    shape="3×32×32",
    classes=100,
    counts={"train": (500,) * 100, "test": (100,) * 100},
    download="cifar-100-python.tar.gz",
    source="https://www.cs.toronto.edu/~kriz/cifar.html",
    files={
        "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
        "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "cifar-100-python/meta": "7973b15100ade9c7d40fb424638fde48",
    },
)


def _cifar(
    data_set: DataSet, root: str, split_seed: int, validation_share: float, limit: int | None, augment: bool
) -> Splits:
    *train_files, test_file, names_file = data_set.files
    folder = find_root(data_set, root, str(Path(names_file).parent))
    for file in data_set.files:
        if not (folder / file).is_file():
            raise data_set.missing_file_error(folder / file, folder)
    train, test = (_read(data_set, [folder / file for file in files]) for files in (train_files, [test_file]))
    return split_images(
        data_set.name,
        train,
        test,
        _class_names(data_set, folder / names_file),
        split_seed=split_seed,
        validation_share=validation_share,
        limit=limit,
        crops=Crops() if augment else None,
    )


def _read(data_set: DataSet, files: Sequence[Path]) -> tuple[Tensor, Part]:
    """(``uint8`` pixels ``[N, 3, 32, 32]``, their labels) of several files."""
    pixels, labels = [], []
    for file in files:
        content = _unpickle(data_set.name, file)
        images, targets = content.get("data"), content.get("fine_labels", content.get("labels"))
        if (
            not isinstance(images, np.ndarray)
            or images.dtype != np.uint8
            or images.ndim != 2
            or images.shape[1] != np.prod(SHAPE)
        ):
            raise InputError(f"{data_set.name}: {str(file)!r} has no images of 3 × 32 × 32 bytes; download it again")
        if (
            not isinstance(targets, list)
            or len(targets) != len(images)
            or not all(isinstance(label, int) and 0 <= label < (data_set.classes or 0) for label in targets)
        ):
            raise InputError(
                f"{data_set.name}: {str(file)!r} has no label from 0 to {(data_set.classes or 0) - 1} for each of its "
                f"{len(images)} images; download it again"
            )
        pixels.append(images.reshape(-1, *SHAPE))
        labels.append(np.array(targets, dtype=np.int64))
    source = files[0] if len(files) == 1 else files[0].parent
    return torch.from_numpy(np.concatenate(pixels)), Part(str(source), np.concatenate(labels))


def _class_names(data_set: DataSet, file: Path) -> list[str]:
    content = _unpickle(data_set.name, file)
    names = content.get("fine_label_names", content.get("label_names"))
    if (
        not isinstance(names, list)
        or len(names) != data_set.classes
        or not all(isinstance(name, str) for name in names)
    ):
        raise InputError(f"{data_set.name}: {str(file)!r} does not name {data_set.classes} classes; download it again")
    return names


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles arrays and Python's plain types; any other class or function is an error."""

    _ALLOWED_NAMES = {("multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}

    def find_class(self, module: str, name: str) -> Any:
        # Numpy has moved the module since these files were written.
        submodule = module.removeprefix("numpy.core.").removeprefix("numpy._core.")
        if (submodule, name) not in self._ALLOWED_NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an array")
        return super().find_class("numpy._core.multiarray" if submodule == "multiarray" else module, name)


def _unpickle(name: str, file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            content = _ArrayUnpickler(stream, encoding="latin1").load()
    except Exception as error:  # A broken file leads the unpickler to whatever it did not expect.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: cannot read {str(file)!r} ({reason}); download it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{name}: {str(file)!r} holds no dictionary; download it again")
    return content
