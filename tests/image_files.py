"""Small data sets of random images in the true formats of the large ones."""

import gzip
import struct

import numpy as np
from PIL import Image

CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def python2_pickle(value) -> bytes:
    """What Python 2 and its numpy wrote with protocol 2: byte strings, and arrays by ``numpy.core.multiarray``."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value) -> bytes:
    if isinstance(value, dict):
        return b"}(" + b"".join(_python2(key) + _python2(item) for key, item in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    if isinstance(value, str | bytes):
        text = value.encode("latin1") if isinstance(value, str) else value
        return b"T" + struct.pack("<i", len(text)) + text
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    assert value.dtype == np.uint8
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(" + b"".join(map(_python2, value.shape)) + b"t"
    return empty + b"(K\x01" + shape + kind + b"\x89" + _python2(value.tobytes()) + b"tb"


def random_pixels(seed, count, *shape):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write_cifar10(root, *, each=2, test_each=3):
    """Five batches of ``each`` images a class, and ``test_each`` a class for the test."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    batches = [(f"data_batch_{index}", each) for index in range(1, 6)] + [("test_batch", test_each)]
    for seed, (name, count) in enumerate(batches):
        labels = list(range(10)) * count
        pixels = random_pixels(seed, len(labels), 3072)
        names = [f"{label}_{index}.png" for index, label in enumerate(labels)]
        content = {"data": pixels, "labels": labels, "batch_label": name, "filenames": names}
        (folder / name).write_bytes(python2_pickle(content))
    (folder / "batches.meta").write_bytes(python2_pickle({"num_vis": 3072, "label_names": CIFAR10_NAMES}))
    return root


def write_cifar100(root, *, each=4, test_each=1):
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for seed, (name, count) in enumerate((("train", each), ("test", test_each))):
        fine = list(range(100)) * count
        coarse = [label // 5 for label in fine]
        pixels = random_pixels(seed, len(fine), 3072)
        (folder / name).write_bytes(python2_pickle({"data": pixels, "coarse_labels": coarse, "fine_labels": fine}))
    names = {"fine_label_names": [f"fine {n}" for n in range(100)], "coarse_label_names": [f"c {n}" for n in range(20)]}
    (folder / "meta").write_bytes(python2_pickle(names))
    return root


def write_idx(file, array, *, packed):
    """An IDX file, as ``.gz`` if ``packed``."""
    content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(content, mtime=0))
    else:
        file.write_bytes(content)


def write_mnist(root, name="MNIST", *, each=10, test_each=3, packed=False):
    """Images whose edge pixels are black."""
    for seed, (part, count) in enumerate((("train", each), ("t10k", test_each))):
        labels = np.tile(np.arange(10, dtype=np.uint8), count)
        pixels = np.pad(random_pixels(seed, len(labels), 22, 22), [(0, 0), (3, 3), (3, 3)])
        write_idx(root / name / "raw" / f"{part}-images-idx3-ubyte", pixels, packed=packed)
        write_idx(root / name / "raw" / f"{part}-labels-idx1-ubyte", labels, packed=packed)
    return root


def write_imagenet(root, *, each=10, test_each=3, classes=("n01440764", "n01443537", "n02119789")):
    """JPEG images of many sizes, in the folders that the archives are unpacked to."""
    for label, name in enumerate(classes):
        for part, count in (("train", each), ("val", test_each)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                rng = np.random.default_rng([label, index, part == "val"])
                corners = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
                size = tuple(int(side) for side in rng.integers(40, 90, 2))
                corners.resize(size, Image.Resampling.BILINEAR).save(folder / f"{name}_{index}.JPEG", quality=95)
    return root
