"""ImageNet (ILSVRC 2012, Russakovsky et al. 2015), read image by image from one folder a class."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from bitsearch.data.data_set import DataSet
from bitsearch.data.options import check_options, find_root
from bitsearch.data.sets.image_folder import find_folders, read_image
from bitsearch.data.splits import Splits
from bitsearch.data.stratified import Part, stratified

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
"""Statistics of the training images' channels, from 0 to 1; the values that published networks were trained with."""
MAX_WORKERS = 8
"""Largest number of processes that read images by default."""


class LazyImages(Dataset[tuple[Tensor, Tensor]]):
    """Images that are read and decoded when they are indexed.

    Args:
        files: paths.
        labels: ``[N]``.
        transform: from an image to its input ``[3, H, W]``.
        random_transform: the same for training, with random parts; None leaves training images as they are.
        workers: processes that read batches; 0 for the main process alone.
    """

    def __init__(
        self,
        files: Sequence[str],
        labels: Tensor,
        transform: Callable[[Any], Tensor],
        random_transform: Callable[[Any], Tensor] | None,
        workers: int,
    ) -> None:
        # An array, not a list: reading a list changes its reference counts, so every process would copy its memory.
        self.files, self.labels = np.array([os.fsencode(file) for file in files]), labels
        self.transform, self.random_transform = transform, random_transform
        self.workers = workers

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(read_image("imagenet", os.fsdecode(self.files[index]))), self.labels[index]

    def augmented(self, index: int, seed: int) -> tuple[Tensor, Tensor]:
        """The sample augmented at random by ``seed``."""
        if self.random_transform is None:
            return self[index]
        image = read_image("imagenet", os.fsdecode(self.files[index]))
        # Torchvision uses the global generator, which other code uses as well.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.random_transform(image), self.labels[index]


def imagenet(
    *,
    split_seed: int = 0,
    root: str = "",
    size: int = 224,
    validation_share: float = 0.04,
    limit: int | None = None,
    augment: bool = True,
    workers: int | None = None,
) -> Splits:
    """ImageNet from ``root/train/CLASS`` and ``root/val/CLASS``; the official validation part is the test split.

    Inputs ``[3, size, size]``, normalized with the published means and standard deviations of the training images.
    Nothing is kept in memory. Any data set in folders of this form can be read.

    Args:
        split_seed: fixes which images of ``root/train`` are for validation, and which a ``limit`` keeps.
        root: the folder; relative to the working directory.
        size: an image is scaled until its shorter side is 8/7 of it, and its middle is taken; 224 by default.
        validation_share: share of every class of ``root/train`` that is held back for validation; by default 0.04,
            about as many images as the official validation part has.
        limit: at most this many images a class of ``root/train`` (validation included) and of ``root/val``.
        augment: take a random part of 8 to 100 % of a training image instead of its middle, and mirror it or not
            (Szegedy et al. 2015).
        workers: processes that read and decode, as many as there are cores, up to 8, by default; what they deliver does
            not depend on their number.

    Raises:
        InputError: an option of the wrong kind, or folders that do not fit; a file that is no image, when it is read.
    """
    # Imported where it is needed: it takes a second that no other data set has to spend.
    from torchvision.transforms import v2

    options = {"size": size, "limit": limit, "validation_share": validation_share, "augment": augment}
    check_options("imagenet", **options, workers=workers)
    processes = min(MAX_WORKERS, os.cpu_count() or 1) if workers is None else workers
    folder = find_root(IMAGENET, root, "train/CLASS/ and val/CLASS/")
    for part in ("train", "val"):
        if not (folder / part).is_dir():
            raise IMAGENET.missing_file_error(folder / part, folder)
    train, val = find_folders("imagenet", folder, ("train", "val"))
    split_indices = stratified(
        "imagenet",
        Part(str(train.root), np.array(train.targets)),
        Part(str(val.root), np.array(val.targets)),
        train.classes,
        split_seed=split_seed,
        validation_share=validation_share,
        limit=limit,
    )
    to_input = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, DEVIATION)]
    transform = v2.Compose([v2.Resize(round(size * 8 / 7)), v2.CenterCrop(size), *to_input])
    random_transform = v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), *to_input])
    make_part = partial(_part, transform=transform, workers=processes)
    return Splits(
        train=make_part(train.samples, split_indices["train"], random_transform=random_transform if augment else None),
        validation=make_part(train.samples, split_indices["validation"]),
        test=make_part(val.samples, split_indices["test"]),
        input_shape=(3, size, size),
        classes=len(train.classes),
        class_names=tuple(train.classes),
        mean=tuple(255 * value for value in MEAN),
        deviation=tuple(255 * value for value in DEVIATION),
    )


def _part(
    samples: Sequence[tuple[str, int]],
    indices: np.ndarray,
    *,
    transform: Callable[[Any], Tensor],
    random_transform: Callable[[Any], Tensor] | None = None,
    workers: int,
) -> LazyImages:
    files, labels = zip(*(samples[index] for index in indices), strict=True)
    return LazyImages(files, torch.tensor(labels), transform, random_transform, workers)


IMAGENET = DataSet(
    "imagenet",
    imagenet,
    "photographs of 1,000 kinds of things (ILSVRC 2012)",
    shape="3×224×224",
    classes=1000,
    counts={"train": 1_281_167, "test": (50,) * 1000},
    download="ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar",
    source="https://image-net.org/challenges/LSVRC/2012/2012-downloads.php",
    files={"train/CLASS/*.JPEG": "", "val/CLASS/*.JPEG": ""},
)
