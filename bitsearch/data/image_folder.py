"""Images in one folder a class, ``ROOT/train/CLASS/*.jpg`` and ``ROOT/test/CLASS/*.jpg``, decoded once into memory."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import TensorDataset

from bitsearch.data.data_set import DataSet
from bitsearch.data.splits import Splits
from bitsearch.errors import InputError

if TYPE_CHECKING:
    from torchvision.datasets import ImageFolder

PADDING = 4
"""Pixels around an image that a random crop may reach into."""
MAX_SIZE = 4096
"""Of an image's side, in pixels."""
SHOWN = 5
"""At most so many names are listed in a message."""


class Images(TensorDataset):
    """Images kept as ``uint8`` ``[N, C, H, W]`` and normalized when they are read.

    Args:
        pixels: 0 to 255.
        labels: ``[N]``.
        mean: of every channel, ``[C, 1, 1]``, in pixels.
        deviation: of every channel, ``[C, 1, 1]``, in pixels.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, mean: Tensor, deviation: Tensor) -> None:
        super().__init__(pixels, labels)
        self.mean, self.deviation = mean, deviation

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        """(``float32`` inputs ``[..., C, H, W]``, labels) of an index, a slice or a list of indices."""
        pixels, labels = super().__getitem__(index)
        return (pixels - self.mean) / self.deviation, labels


class AugmentedImages(Images):
    """Images whose shuffled batches are cropped and flipped at random."""

    def augment(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """As :func:`crop_and_flip`."""
        return crop_and_flip(inputs, generator)


def image_folder(
    *,
    split_seed: int = 0,
    root: str = "",
    size: int | None = None,
    validation_share: float = 0.1,
    limit: int | None = None,
    augment: bool = False,
) -> Splits:
    """Colour images found by :class:`torchvision.datasets.ImageFolder` in ``root/train`` and ``root/test``.

    Inputs ``[3, H, W]``, normalized with the channels' means and standard deviations over the training split. In memory
    they take 3·H·W bytes an image.

    Args:
        split_seed: fixes which images of ``root/train`` are for validation, and which a ``limit`` keeps.
        root: the folder; relative to the working directory.
        size: images of other sizes are resized to ``size`` × ``size``, with antialiasing and without regard to their
            proportions. Without it all images must have the same size.
        validation_share: share of every class of ``root/train`` that is held back for validation; at least one image.
        limit: at most this many images a class of ``root/train`` (validation included) and of ``root/test``.
        augment: crop and flip training batches at random.

    Raises:
        InputError: an option of the wrong kind, folders that do not fit, or a file that is no image.
    """
    _check_options(root, size, validation_share, limit, augment)
    rng = np.random.default_rng(split_seed)
    folders = _find(root)
    parts: dict[str, list[tuple[str, int]]] = {"train": [], "validation": [], "test": []}
    for name, least in (("train", 2), ("test", 1)):
        for label, files in enumerate(_files_by_class(folders[name], least)):
            kept = [(files[index], label) for index in rng.permutation(len(files))[:limit]]
            held_back = _held_back(len(kept), validation_share, folders[name], label) if name == "train" else 0
            parts["validation"] += kept[:held_back]
            parts[name] += kept[held_back:]
    # Any first few samples are to be of all classes.
    order = {name: [part[index] for index in rng.permutation(len(part))] for name, part in parts.items()}
    pixels = _decode([file for part in order.values() for file, _ in part], size)
    pieces = dict(zip(order, pixels.split([len(part) for part in order.values()]), strict=True))
    mean, deviation = channel_statistics(pieces["train"])

    def images(name: str) -> Images:
        labels = torch.tensor([label for _, label in order[name]])
        kind = AugmentedImages if augment and name == "train" else Images
        return kind(pieces[name], labels, mean, deviation)

    return Splits(
        train=images("train"),
        validation=images("validation"),
        test=images("test"),
        input_shape=tuple(pixels.shape[1:]),
        classes=len(folders["train"].classes),
    )


def channel_statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """(mean, standard deviation) of every channel of ``uint8`` images ``[N, C, H, W]``, each ``[C, 1, 1]``.

    Exact: from how often each of the 256 values occurs. A channel of one value only has deviation 1.
    """
    values = torch.arange(256, dtype=torch.float64)
    shares = torch.stack([channel.flatten().bincount(minlength=256).double() for channel in pixels.unbind(1)])
    shares /= shares.sum(1, keepdim=True)
    mean = shares @ values
    deviation = (shares * (values - mean[:, None]).square()).sum(1).sqrt()
    deviation[deviation == 0] = 1
    return mean.float().view(-1, 1, 1), deviation.float().view(-1, 1, 1)


def crop_and_flip(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Every image of ``[N, C, H, W]`` shifted by up to :data:`PADDING` pixels each way, and mirrored or not.

    The usual augmentation of CIFAR (He et al. 2016): zeros, which are the mean colour, come in at the edges.
    """
    count, _, height, width = inputs.shape
    top, left = torch.randint(2 * PADDING + 1, (2, count, 1), generator=generator)
    mirrored = torch.randint(2, (count, 1), generator=generator).bool()
    rows = top + torch.arange(height)
    columns = left + torch.where(mirrored, torch.arange(width - 1, -1, -1), torch.arange(width))
    padded = torch.nn.functional.pad(inputs, [PADDING] * 4)
    # Indices of different axes are broadcast: [N, 1, 1], [N, H, 1] and [N, 1, W] give [N, H, W, C].
    return (
        padded.permute(0, 2, 3, 1)[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
        .permute(0, 3, 1, 2)
        .contiguous()
    )


def _check_options(root: object, size: object, validation_share: object, limit: object, augment: object) -> None:
    def whole(value: object, least: int, most: float = math.inf) -> bool:
        return value is None or (isinstance(value, int) and not isinstance(value, bool) and least <= value <= most)

    if not isinstance(root, str) or not root:
        raise InputError(
            "image_folder: no root given; set root in data_options to the folder that holds train/CLASS/ and "
            'test/CLASS/, as in data_options = { root = "path/to/images" }'
        )
    share_fits = isinstance(validation_share, float) and 0 < validation_share < 1
    for fits, name, value, allowed in (
        (whole(size, 1, MAX_SIZE), "size", size, f"a whole number of pixels from 1 to {MAX_SIZE}"),
        (whole(limit, 2), "limit", limit, "a whole number of images a class, at least 2"),
        (share_fits, "validation_share", validation_share, "a share above 0 and below 1"),
        (isinstance(augment, bool), "augment", augment, "true or false"),
    ):
        if not fits:
            raise InputError(f"image_folder: {name} is {value!r}; give {allowed}")


def _find(root: str) -> "dict[str, ImageFolder]":
    """The image folders ``train`` and ``test``, with the same classes."""
    try:
        return _image_folders(Path(root).expanduser())
    except (OSError, RuntimeError) as error:
        raise InputError(f"image_folder: cannot read the folder {root!r} ({error}); give another as root") from error


def _image_folders(root: Path) -> "dict[str, ImageFolder]":
    # Imported where it is needed: it takes a second that no other data set has to spend.
    from torchvision.datasets import ImageFolder

    if not root.is_dir():
        raise InputError(f"image_folder: no folder {str(root)!r}; give the path of a folder as root in data_options")
    folders = {}
    for name in ("train", "test"):
        if not (root / name).is_dir():
            inside = _listed(sorted(entry.name for entry in root.iterdir()))
            raise InputError(f"image_folder: {str(root)!r} needs the folders 'train' and 'test'; in it: {inside}")
        try:
            folders[name] = ImageFolder(str(root / name), allow_empty=True)
        except FileNotFoundError as error:
            raise InputError(
                f"image_folder: no folders in {str(root / name)!r}; put the images in one folder a class"
            ) from error
    train, test = (set(folder.classes) for folder in folders.values())
    if train != test:
        only = {"train": sorted(train - test), "test": sorted(test - train)}
        differences = "; ".join(f"only in {name}: {_listed(classes)}" for name, classes in only.items() if classes)
        raise InputError(f"image_folder: train and test in {str(root)!r} must have the same classes; {differences}")
    if len(train) < 2:
        raise InputError(f"image_folder: {str(root)!r} has the one class {_listed(sorted(train))}; at least 2 needed")
    return folders


def _files_by_class(folder: "ImageFolder", least: int) -> list[list[str]]:
    files: list[list[str]] = [[] for _ in folder.classes]
    for file, label in folder.samples:
        files[label].append(file)
    for name, found in zip(folder.classes, files, strict=True):
        if len(found) < least:
            raise InputError(
                f"image_folder: images of class {name!r} in {str(folder.root)!r}: {len(found)}; at least {least} needed"
            )
    return files


def _held_back(count: int, share: float, folder: "ImageFolder", label: int) -> int:
    held_back = max(1, round(share * count))
    if held_back == count:
        raise InputError(
            f"image_folder: validation_share {share} of the {count} images of class {folder.classes[label]!r} leaves "
            "none for training; lower it, or give more images a class"
        )
    return held_back


def _decode(files: Sequence[str], size: int | None) -> Tensor:
    """``uint8`` ``[N, 3, H, W]``."""
    first = _read(files[0], size)
    try:
        pixels = np.empty((len(files), *first.shape), dtype=np.uint8)
    except MemoryError as error:
        needed = len(files) * first.size / 1e9
        raise InputError(
            f"image_folder: {needed:.0f} GB of images do not fit into memory; give size or limit"
        ) from error
    for index, file in enumerate(files):
        image = _read(file, size)
        if image.shape != first.shape:
            (_, height, width), (_, first_height, first_width) = image.shape, first.shape
            raise InputError(
                f"image_folder: {file!r} has {width} × {height} pixels, {files[0]!r} has {first_width} × "
                f"{first_height}; give size in data_options to resize all"
            )
        pixels[index] = image
    return torch.from_numpy(pixels)


def _read(file: str, size: int | None) -> np.ndarray:
    """``uint8`` ``[3, H, W]``."""
    try:
        with Image.open(file) as found:
            mode, image = found.mode, found.convert("RGB")
    except Exception as error:  # A broken file leads decoders to whatever they did not expect.
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "its format is unknown" if unknown else " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"image_folder: cannot read the image {file!r} ({reason}); mend or remove it") from error
    if mode.startswith(("I", "F")):
        raise InputError(f"image_folder: {file!r} has more than 8 bits a channel; convert it to 8")
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:SHOWN])
    return (shown or "nothing") + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


IMAGE_FOLDER = DataSet(
    "image_folder",
    image_folder,
    "images of your own, in one folder a class",
    shape="3×H×W",
    files={"train/CLASS/*.jpg": "", "test/CLASS/*.jpg": ""},
)
