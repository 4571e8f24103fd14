"""MNIST (LeCun et al. 1998) and Fashion-MNIST (Xiao et al. 2017), from their IDX files."""

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from bitsearch.data.data_set import DataSet
from bitsearch.data.images import Crops, split_images
from bitsearch.data.options import check_options, find_root
from bitsearch.data.splits import Splits
from bitsearch.data.stratified import Part
from bitsearch.errors import InputError

SIDE = 28
CLASSES = 10


def mnist(
    *,
    split_seed: int = 0,
    root: str = "",
    validation_share: float = 0.1,
    limit: int | None = None,
    augment: bool = False,
) -> Splits:
    """MNIST from ``root/MNIST/raw`` or ``root`` itself, packed or not; the official test part is the test split.

    Inputs ``[1, 28, 28]``, normalized with the mean and standard deviation of the training split; 55 MB in memory.

    Args:
        split_seed: fixes which images of the training part are for validation, and which a ``limit`` keeps.
        root: the folder; relative to the working directory.
        validation_share: share of every class of the training part that is held back for validation.
        limit: at most this many images a class of the training part (validation included) and of the test part.
        augment: shift training images by up to 2 pixels at random; digits are never mirrored.

    Raises:
        InputError: an option of the wrong kind, a file that is not there or that holds something else.
    """
    check_options("mnist", validation_share=validation_share, limit=limit, augment=augment)
    crops = Crops(padding=2, mirror=False, black=True) if augment else None
    return _mnist(MNIST, root, split_seed, validation_share, limit, crops)


def fashion_mnist(
    *,
    split_seed: int = 0,
    root: str = "",
    validation_share: float = 0.1,
    limit: int | None = None,
    augment: bool = True,
) -> Splits:
    """Fashion-MNIST from ``root/FashionMNIST/raw`` or from ``root`` itself; otherwise as :func:`mnist`.

    Debian's package ``dataset-fashion-mnist`` puts the files into ``/usr/share/datasets/fashion-mnist``.

    ``augment`` shifts training images by up to 4 pixels and mirrors them, at random (Zhong et al. 2020).
    """
    check_options("fashion_mnist", validation_share=validation_share, limit=limit, augment=augment)
    crops = Crops(black=True) if augment else None
    return _mnist(FASHION_MNIST, root, split_seed, validation_share, limit, crops)


MNIST = DataSet(
    "mnist",
    mnist,
    "handwritten digits",
    shape="1×28×28",
    classes=CLASSES,
    counts={
        "train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
    },
    download="the four .gz files",
    unpack=False,
    source="https://ossci-datasets.s3.amazonaws.com/mnist/",
    files={
        "MNIST/raw/train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "MNIST/raw/train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "MNIST/raw/t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "MNIST/raw/t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    contents={
        "MNIST/raw/train-images-idx3-ubyte.gz": "6bbc9ace898e44ae57da46a324031adb",
        "MNIST/raw/train-labels-idx1-ubyte.gz": "a25bea736e30d166cdddb491f175f624",
        "MNIST/raw/t10k-images-idx3-ubyte.gz": "2646ac647ad5339dbf082846283269ea",
        "MNIST/raw/t10k-labels-idx1-ubyte.gz": "27ae3e4e09519cfbb04c329615203637",
    },
)

FASHION_MNIST = DataSet(
    "fashion_mnist",
    fashion_mnist,
    "photographs of clothes and shoes",
    shape="1×28×28",
    classes=CLASSES,
    counts={"train": (6000,) * CLASSES, "test": (1000,) * CLASSES},
    download="the four .gz files",
    unpack=False,
    source="https://github.com/zalandoresearch/fashion-mnist",
    files={
        "FashionMNIST/raw/train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "FashionMNIST/raw/train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "FashionMNIST/raw/t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    contents={
        "FashionMNIST/raw/train-images-idx3-ubyte.gz": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "FashionMNIST/raw/train-labels-idx1-ubyte.gz": "9018921c3c673c538a1fc5bad174d6f9",
        "FashionMNIST/raw/t10k-images-idx3-ubyte.gz": "8181f5470baa50b63fa0f6fddb340f0a",
        "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz": "15d484375f8d13e6eb1aabb0c3f46965",
    },
)


def _mnist(
    data_set: DataSet, root: str, split_seed: int, validation_share: float, limit: int | None, crops: Crops | None
) -> Splits:
    # Imported where it is needed: it takes a second that no other data set has to spend.
    from torchvision.datasets.mnist import read_image_file, read_label_file

    train_images, train_labels, test_images, test_labels = data_set.files
    folder = find_root(data_set, root, str(Path(train_images).parent))
    parts = []
    for images, targets in ((train_images, train_labels), (test_images, test_labels)):
        pixels = _read(data_set, folder, images, read_image_file)
        labels = _read(data_set, folder, targets, read_label_file)
        if pixels.shape[1:] != (SIDE, SIDE):
            size_text = " × ".join(map(str, pixels.shape[1:]))
            raise InputError(
                f"{data_set.name}: {str(folder / images)!r} has images of {size_text} pixels, not {SIDE} × {SIDE}"
            )
        if len(labels) != len(pixels) or (labels >= CLASSES).any():
            raise InputError(
                f"{data_set.name}: {str(folder / targets)!r} has no label from 0 to {CLASSES - 1} for each of the "
                f"{len(pixels)} images of {str(folder / images)!r}; download both again"
            )
        parts.append((pixels[:, None], Part(str(folder / targets), labels.numpy())))
    train, test = parts
    return split_images(
        data_set.name,
        train,
        test,
        [str(label) for label in range(CLASSES)],
        split_seed=split_seed,
        validation_share=validation_share,
        limit=limit,
        crops=crops,
    )


def _read(data_set: DataSet, folder: Path, packed_name: str, reader: Callable[[str], Tensor]) -> Tensor:
    """The tensor that torchvision's ``reader`` reads from the file, packed or not."""
    file = data_set.locate(packed_name, folder)
    if not file.is_file():
        raise data_set.missing_file_error(folder / packed_name, folder)
    try:
        if file.suffix != ".gz":
            return reader(str(file))
        with tempfile.TemporaryDirectory() as temporary_folder:
            unpacked_file = Path(temporary_folder) / "idx"
            unpacked_file.write_bytes(gzip.decompress(file.read_bytes()))
            return reader(str(unpacked_file))
    except Exception as error:  # A broken file leads the reader to whatever it did not expect.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{data_set.name}: cannot read {str(file)!r} ({reason}); download it again") from error
