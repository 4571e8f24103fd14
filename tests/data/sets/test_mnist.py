import gzip

import numpy as np
import pytest
import torch
import torchvision.datasets
from image_files import write_idx, write_mnist
from tolerances import NORMALIZED

from bitsearch.data import DATA_SETS, batches, load_data
from bitsearch.data.images import Crops
from bitsearch.errors import InputError

FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
REFERENCES = {"mnist": torchvision.datasets.MNIST, "fashion_mnist": torchvision.datasets.FashionMNIST}
PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Both data sets, unpacked; tests read them and leave them as they are."""
    root = tmp_path_factory.mktemp("mnist")
    return write_mnist(write_mnist(root), "FashionMNIST", each=11)


def load(name, root, split_seed=0, **options):
    return load_data(name, {"root": str(root), **options}, split_seed=split_seed)


def pairs(part):
    return {(bytes(image.flatten().tolist()), int(label)) for image, label in zip(*part.tensors, strict=True)}


def refusal(root, name="mnist", **options):
    with pytest.raises(InputError) as caught:
        load(name, root, **options)
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", FOLDERS)
def test_images_and_labels_are_those_torchvision_reads(root, name):
    splits = load(name, root)
    assert (splits.input_shape, splits.classes) == ((1, 28, 28), 10)
    assert splits.train[0][0].shape == (1, 28, 28)
    train, validation, test = (pairs(splits.split(part)) for part in PARTS)
    assert not train & validation
    for found, is_train in ((train | validation, True), (test, False)):
        reference = REFERENCES[name](root, train=is_train)
        images = zip(reference.data, reference.targets, strict=True)
        assert found == {(image.numpy().tobytes(), int(label)) for image, label in images}


def test_packed_files_are_the_same_data(root, tmp_path):
    packed = load("mnist", write_mnist(tmp_path, packed=True))
    for part in PARTS:
        assert all(map(torch.equal, packed.split(part).tensors, load("mnist", root).split(part).tensors))


@pytest.mark.parametrize("packed", [False, True])
def test_files_may_lie_in_the_root_itself(root, tmp_path, packed):
    for file in (write_mnist(tmp_path / "in", packed=packed) / "MNIST" / "raw").glob("*"):
        file.rename(tmp_path / file.name)
    flat = load("mnist", tmp_path)
    for part in PARTS:
        assert all(map(torch.equal, flat.split(part).tensors, load("mnist", root).split(part).tensors))


def test_packed_files_are_read_where_both_are_there(root, tmp_path):
    write_mnist(write_mnist(tmp_path, packed=True), each=4)
    assert len(load("mnist", tmp_path).train) == len(load("mnist", root).train)


def test_every_class_has_its_share_and_the_seed_fixes_the_split(root):
    found, again, other = (load("mnist", root, seed, validation_share=0.2) for seed in (5, 5, 6))
    for part, count in zip(PARTS, (8, 2, 3), strict=True):
        assert found.split(part).tensors[1].bincount().tolist() == [count] * 10
        assert all(map(torch.equal, found.split(part).tensors, again.split(part).tensors))
    assert pairs(found.validation) != pairs(other.validation)
    limited = load("mnist", root, limit=2)
    assert [len(limited.split(part)) for part in PARTS] == [10, 10, 20]


def test_inputs_are_normalized_on_the_training_split_alone(root):
    splits = load("mnist", root)
    train = splits.train.tensors[0].double()
    for part in PARTS:
        expected = (splits.split(part).tensors[0] - train.mean()) / train.std(correction=0)
        torch.testing.assert_close(splits.split(part)[:][0].double(), expected, **NORMALIZED)


def test_clothes_are_mirrored_and_digits_are_not(root):
    assert not hasattr(load("mnist", root).train, "augment")
    assert load("mnist", root, augment=True).train.crops == Crops(padding=2, mirror=False, black=True)
    assert load("fashion_mnist", root).train.crops == Crops(padding=4, mirror=True, black=True)


def test_digits_are_shifted_on_their_black_background(root):
    splits = load("mnist", root, augment=True)
    part = splits.train
    inputs, labels = next(iter(batches(part, len(part), torch.Generator().manual_seed(0))))

    def values(image):
        return bytes(sorted(image.flatten().tolist()))

    plain = {values(image): image for image in part.tensors[0]}
    shifts = set()
    for image in ((inputs * part.deviation) + part.mean).round().to(torch.uint8):
        # Three black pixels surround every image: shifted by at most two it keeps all the others.
        original = plain[values(image)]
        fits = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(image, original.roll((down, right), (1, 2)))
        ]
        assert len(fits) == 1
        shifts.add(fits[0])
    assert {down for down, _ in shifts} == {right for _, right in shifts} == set(range(-2, 3))
    assert labels.bincount().tolist() == part.tensors[1].bincount().tolist()


@pytest.mark.parametrize("name", FOLDERS)
def test_files_and_sums_are_those_torchvision_knows(name):
    entry = DATA_SETS[name]
    assert dict(entry.files) == {f"{FOLDERS[name]}/raw/{file}": md5 for file, md5 in REFERENCES[name].resources}
    assert [sum(entry.counts[part]) for part in ("train", "test")] == [60_000, 10_000]


@pytest.mark.parametrize("name", FOLDERS)
def test_nothing_there_says_what_to_download(tmp_path, name):
    file = f"{FOLDERS[name]}/raw/train-images-idx3-ubyte.gz"
    message = refusal(tmp_path, name)
    assert f"no '{tmp_path / file}'; download the four .gz files from {DATA_SETS[name].source}, so that" in message
    assert "no root given" in refusal("", name)


@pytest.mark.parametrize("file", ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_file_has_to_be_there_and_whole(tmp_path, file, packed):
    write_mnist(tmp_path, packed=packed)
    path = tmp_path / "MNIST" / "raw" / f"{file}-ubyte{'.gz' if packed else ''}"
    content = path.read_bytes()
    for broken in (content[:-5], content[:3], b"", b"<html>not found</html>"):
        path.write_bytes(broken)
        assert f"cannot read '{path}' (" in refusal(tmp_path)
    path.unlink()
    assert f"no '{tmp_path / 'MNIST' / 'raw' / file}-ubyte.gz'; download" in refusal(tmp_path)


def test_images_of_another_size_are_refused(tmp_path):
    write_mnist(tmp_path)
    file = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    write_idx(file, np.zeros((30, 20, 28), dtype=np.uint8), packed=False)
    assert f"'{file}.gz' has images of 20 × 28 pixels, not 28 × 28" in refusal(tmp_path)


@pytest.mark.parametrize("labels", [np.zeros(29, dtype=np.uint8), np.full(30, 10, dtype=np.uint8)])
def test_labels_have_to_fit_the_images(tmp_path, labels):
    write_mnist(tmp_path)
    file = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    write_idx(file, labels, packed=False)
    assert "t10k-labels-idx1-ubyte.gz' has no label from 0 to 9 for each of the 30 images of" in refusal(tmp_path)


def test_a_packed_file_that_holds_something_else(tmp_path):
    write_mnist(tmp_path, packed=True)
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(b"something else"))
    assert f"cannot read '{file}' (" in refusal(tmp_path)
