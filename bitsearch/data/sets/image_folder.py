"""Images in one folder a class, ``ROOT/train/CLASS/*.jpg`` and ``ROOT/test/CLASS/*.jpg``, decoded once into memory."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from bitsearch.data.data_set import DataSet
from bitsearch.data.images import Crops, image_splits
from bitsearch.data.options import check_options, find_root
from bitsearch.data.splits import Splits
from bitsearch.data.stratified import Part, stratified
from bitsearch.errors import InputError

if TYPE_CHECKING:
    from torchvision.datasets import ImageFolder

MAX_LISTED_NAMES = 5
"""Number of names that a message lists at most."""


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
    folder = find_root(IMAGE_FOLDER, root, "train/CLASS/ and test/CLASS/")
    check_options("image_folder", size=size, limit=limit, validation_share=validation_share, augment=augment)
    train, test = find_folders("image_folder", folder, ("train", "test"))
    split_indices = stratified(
        "image_folder",
        Part(str(train.root), np.array(train.targets)),
        Part(str(test.root), np.array(test.targets)),
        train.classes,
        split_seed=split_seed,
        validation_share=validation_share,
        limit=limit,
    )
    sources = {"train": train, "validation": train, "test": test}
    samples = {name: [sources[name].samples[index] for index in indices] for name, indices in split_indices.items()}
    pixels = _decode([file for part in samples.values() for file, _ in part], size)
    pieces = pixels.split([len(part) for part in samples.values()])
    parts = {
        name: (piece, torch.tensor([label for _, label in samples[name]]))
        for name, piece in zip(samples, pieces, strict=True)
    }
    return image_splits(parts, classes=train.classes, crops=Crops() if augment else None)


def find_folders(name: str, root: Path, parts: tuple[str, str]) -> "tuple[ImageFolder, ImageFolder]":
    """The images of the two ``parts`` of ``root``, one folder a class and the same classes in both.

    ``name`` is the data set's, for messages.
    """
    try:
        return _image_folders(name, root, parts)
    except OSError as error:
        raise InputError(f"{name}: cannot read the folder {str(root)!r} ({error}); give another as root") from error


def read_image(name: str, file: str, *, upright: bool = False) -> Image.Image:
    """An image of 8-bit colour; InputError if ``file`` holds none. ``name`` is the data set's, for messages.

    ``upright`` turns it as its camera noted (EXIF); published data sets are read as their pixels lie.
    """
    try:
        with Image.open(file) as picture:
            turned = ImageOps.exif_transpose(picture) if upright else picture
            mode, image = picture.mode, turned.convert("RGB")
    except Exception as error:  # A broken file leads decoders to whatever they did not expect.
        has_unknown_format = isinstance(error, UnidentifiedImageError)
        reason = "its format is unknown" if has_unknown_format else " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: cannot read the image {file!r} ({reason}); mend or remove it") from error
    if mode.startswith(("I", "F")):
        raise InputError(f"{name}: {file!r} has more than 8 bits a channel; convert it to 8")
    return image


def _image_folders(data_set: str, root: Path, parts: tuple[str, str]) -> "tuple[ImageFolder, ImageFolder]":
    # Imported where it is needed: it takes a second that no other data set has to spend.
    from torchvision.datasets import ImageFolder

    if not root.is_dir():
        raise InputError(f"{data_set}: no folder {str(root)!r}; give the path of a folder as root in data_options")
    folders = {}
    for name in parts:
        if not (root / name).is_dir():
            contents = _name_list(sorted(entry.name for entry in root.iterdir()))
            folder_names = " and ".join(map(repr, parts))
            raise InputError(f"{data_set}: {str(root)!r} needs the folders {folder_names}; in it: {contents}")
        try:
            _check_links(data_set, root / name)
            folders[name] = ImageFolder(str(root / name), is_valid_file=_is_image, allow_empty=True)
        except FileNotFoundError as error:
            raise InputError(
                f"{data_set}: no folders in {str(root / name)!r}; put the images in one folder a class"
            ) from error
    (first, first_classes), (second, second_classes) = ((name, set(folder.classes)) for name, folder in folders.items())
    if first_classes != second_classes:
        unshared_classes = {
            first: sorted(first_classes - second_classes),
            second: sorted(second_classes - first_classes),
        }
        differences = "; ".join(
            f"only in {name}: {_name_list(classes)}" for name, classes in unshared_classes.items() if classes
        )
        raise InputError(f"{data_set}: {first} and {second} in {str(root)!r} must have the same classes; {differences}")
    if len(first_classes) < 2:
        raise InputError(
            f"{data_set}: {str(root)!r} has the one class {_name_list(sorted(first_classes))}; at least 2 needed"
        )
    return folders[first], folders[second]


def _is_image(file: str) -> bool:
    """By its name; macOS puts a file ``._NAME``, which holds no image, beside every file on other disks."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return file.lower().endswith(IMG_EXTENSIONS) and not Path(file).name.startswith("._")


def _check_links(data_set: str, folder: Path) -> None:
    """InputError if a link leads to a folder around it: its images would be found again and again."""
    for parent, names, _ in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            if path.is_symlink() and path.parent.resolve().is_relative_to(path.resolve()):
                raise InputError(f"{data_set}: {str(path)!r} is a link to a folder that it lies in; remove it")


def _decode(files: Sequence[str], size: int | None) -> Tensor:
    """``uint8`` ``[N, 3, H, W]``."""
    first = _first_readable(files, size)
    try:
        pixels = np.empty((len(files), *first.shape), dtype=np.uint8)
    except MemoryError as error:
        gigabytes = len(files) * first.size / 1e9
        raise InputError(
            f"image_folder: {gigabytes:.0f} GB of images do not fit into memory; give size or limit"
        ) from error
    faults = []
    for index, file in enumerate(files):
        try:
            image = _read(file, size)
        except InputError as error:
            faults.append(error)
            continue
        if image.shape != first.shape:
            (_, height, width), (_, first_height, first_width) = image.shape, first.shape
            raise InputError(
                f"image_folder: {file!r} has {width} × {height} pixels, {files[0]!r} has {first_width} × "
                f"{first_height}; give size in data_options to resize all"
            )
        pixels[index] = image
    if faults:
        remainder = f"; {len(faults) - 1} other files cannot be used either" if len(faults) > 1 else ""
        raise InputError(f"{faults[0]}{remainder}") from faults[0]
    return torch.from_numpy(pixels)


def _first_readable(files: Sequence[str], size: int | None) -> np.ndarray:
    for file in files:
        try:
            return _read(file, size)
        except InputError:
            continue
    return _read(files[0], size)


def _read(file: str, size: int | None) -> np.ndarray:
    """``uint8`` ``[3, H, W]``."""
    image = read_image("image_folder", file, upright=True)
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)


def _name_list(names: Sequence[str]) -> str:
    listing = ", ".join(repr(name) for name in names[:MAX_LISTED_NAMES])
    return (listing or "nothing") + (
        f" and {len(names) - MAX_LISTED_NAMES} more" if len(names) > MAX_LISTED_NAMES else ""
    )


IMAGE_FOLDER = DataSet(
    "image_folder",
    image_folder,
    "images of your own, in one folder a class",
    shape="3×H×W",
    files={"train/CLASS/*.jpg": "", "test/CLASS/*.jpg": ""},
)
