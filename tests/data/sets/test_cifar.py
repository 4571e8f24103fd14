import hashlib
import os
import pickle

import numpy as np
import pytest
import torch
import torchvision.datasets
from image_files import CIFAR10_NAMES, python2_pickle, random_pixels, write_cifar10, write_cifar100
from tolerances import NORMALIZED

from bitsearch.data import DATA_SETS, batches, load_data
from bitsearch.data.images import Crops
from bitsearch.data.sets.cifar import cifar10
from bitsearch.errors import InputError

NAMES = ("cifar10", "cifar100")
PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Both data sets; tests read them and leave them as they are."""
    return write_cifar100(write_cifar10(tmp_path_factory.mktemp("cifar")))


@pytest.fixture
def own_root(tmp_path):
    return write_cifar10(tmp_path)


def load(name, root, split_seed=0, **options):
    return load_data(name, {"root": str(root), **options}, split_seed=split_seed)


def pairs(part):
    """(pixels, label) of every image, as a set that can be compared."""
    return {(bytes(image.flatten().tolist()), int(label)) for image, label in zip(*part.tensors, strict=True)}


def refusal(root, name="cifar10", **options):
    with pytest.raises(InputError) as caught:
        load(name, root, **options)
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    return message


def by_torchvision(name, root, train):
    """The reference: torchvision's own reader, told the sums of these files."""
    original = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
    folder = root / original.base_folder

    def with_sums(files):
        return [[file, hashlib.md5((folder / file).read_bytes()).hexdigest()] for file, _ in files]

    [[_, sum_of_meta]] = with_sums([(original.meta["filename"], "")])
    lists = {"train_list": with_sums(original.train_list), "test_list": with_sums(original.test_list)}
    kind = type("Own", (original,), lists | {"meta": original.meta | {"md5": sum_of_meta}})
    found = kind(root, train=train)
    return {(image.transpose(2, 0, 1).tobytes(), label) for image, label in zip(found.data, found.targets, strict=True)}


@pytest.mark.parametrize("name", NAMES)
def test_images_and_labels_are_those_torchvision_reads(root, name):
    splits = load(name, root)
    train, validation, test = (pairs(splits.split(part)) for part in PARTS)
    assert not train & validation
    assert train | validation == by_torchvision(name, root, train=True)
    assert test == by_torchvision(name, root, train=False)
    assert splits.input_shape == splits.train[0][0].shape == (3, 32, 32)
    assert splits.classes == DATA_SETS[name].classes


@pytest.mark.parametrize(("name", "each"), [("cifar10", (7, 3, 3)), ("cifar100", (3, 1, 1))])
def test_every_class_has_its_share_and_the_seed_fixes_the_split(root, name, each):
    found, again, other = (load(name, root, seed, validation_share=0.3) for seed in (5, 5, 6))
    for part, count in zip(PARTS, each, strict=True):
        labels = found.split(part).tensors[1]
        assert labels.bincount().tolist() == [count] * found.classes
        assert all(map(torch.equal, found.split(part).tensors, again.split(part).tensors))
    assert pairs(found.validation) != pairs(other.validation)
    assert pairs(found.test) == pairs(other.test)


def test_a_limit_keeps_so_many_images_a_class(root):
    splits = load("cifar10", root, limit=4, validation_share=0.25)
    assert [splits.split(part).tensors[1].bincount().tolist() for part in PARTS] == [[3] * 10, [1] * 10, [3] * 10]


def test_inputs_are_normalized_on_the_training_split_alone(root):
    splits = load("cifar10", root)
    train = splits.train.tensors[0].double()
    mean, deviation = train.mean((0, 2, 3)).view(3, 1, 1), train.std((0, 2, 3), correction=0).view(3, 1, 1)
    for part in PARTS:
        pixels = splits.split(part).tensors[0]
        torch.testing.assert_close(splits.split(part)[:][0].double(), (pixels - mean) / deviation, **NORMALIZED)
    assert splits.test[:][0].mean().item() != pytest.approx(0, abs=NORMALIZED["atol"])


def test_training_batches_are_cropped_and_mirrored_unless_told_not_to(root):
    augmented, plain = load("cifar10", root), load("cifar10", root, augment=False)
    assert augmented.train.crops == Crops(padding=4, mirror=True, black=False)

    def one(splits, part):
        return next(iter(batches(splits.split(part), 100, torch.Generator().manual_seed(1))))[0]

    assert not torch.equal(one(augmented, "train"), one(plain, "train"))
    assert torch.equal(one(augmented, "validation"), one(plain, "validation"))


# What is known of the true files.


@pytest.mark.parametrize(
    ("name", "reference"), [("cifar10", torchvision.datasets.CIFAR10), ("cifar100", torchvision.datasets.CIFAR100)]
)
def test_files_and_sums_are_those_torchvision_knows(name, reference):
    entry = DATA_SETS[name]
    listed = [*reference.train_list, *reference.test_list, [reference.meta["filename"], reference.meta["md5"]]]
    assert dict(entry.files) == {f"{reference.base_folder}/{file}": md5 for file, md5 in listed}
    assert entry.download == reference.filename
    assert [sum(entry.counts[part]) for part in ("train", "test")] == [50_000, 10_000]


# What a user may get wrong.


@pytest.mark.parametrize("name", NAMES)
def test_nothing_there_says_what_to_download(tmp_path, name):
    message = refusal(tmp_path / "data", name)
    first = next(iter(DATA_SETS[name].files))
    archive = {"cifar10": "cifar-10-python.tar.gz", "cifar100": "cifar-100-python.tar.gz"}[name]
    assert f"no '{tmp_path / 'data' / first}'; download and unpack {archive} from https://www.cs.toronto.edu" in message
    assert f"so that '{tmp_path / 'data'}' holds {first}, " in message
    assert "no root given; set root in data_options to the folder that holds cifar-10" in refusal("", "cifar10")


@pytest.mark.parametrize("file", DATA_SETS["cifar10"].files)
def test_every_file_has_to_be_there(own_root, file):
    (own_root / file).unlink()
    assert f"no '{own_root / file}'; download" in refusal(own_root)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"limit": 1}, "limit is 1; give a whole number of samples a class"),
        ({"validation_share": 1.0}, "validation_share is 1.0; give a share"),
        ({"validation_share": 0.95}, "validation_share 0.95 of the 10 samples of class 'airplane' leaves none"),
        ({"augment": "yes"}, "augment is 'yes'; give true or false"),
    ],
)
def test_wrong_options_are_refused(root, options, expected):
    assert expected in refusal(root, **options)


@pytest.mark.parametrize("keep", [0, 1, 500, -3])
def test_a_file_that_is_cut_off_is_named(own_root, keep):
    file = own_root / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(file.read_bytes()[:keep])
    assert f"cannot read '{file}' (" in refusal(own_root)


class _Attack:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("file", ["data_batch_1", "test_batch", "batches.meta"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_no_file_can_run_code(own_root, tmp_path, file, protocol):
    marker = tmp_path / "ran"
    attack = pickle.dumps({"data": _Attack(marker), "labels": [], "label_names": CIFAR10_NAMES}, protocol)
    path = own_root / "cifar-10-batches-py" / file
    path.write_bytes(attack)
    message = refusal(own_root)
    assert f"cannot read '{path}' (it names posix.system, which is no part of an array)" in message
    assert not marker.exists()
    pickle.loads(attack)
    assert marker.exists()  # the attack would have worked


@pytest.mark.parametrize("name", ["numpy.load", "numpy._core.multiarray.fromfile", "builtins.eval", "numpy.dtype.x"])
def test_arrays_are_made_of_three_names_only(own_root, name):
    file = own_root / "cifar-10-batches-py" / "test_batch"
    module, _, attribute = name.rpartition(".")
    file.write_bytes(f"c{module}\n{attribute}\n.".encode())
    assert f"it names {name}, which is no part of an array" in refusal(own_root)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ([1, 2], "holds no dictionary"),
        ({"labels": [0]}, "has no images of 3 × 32 × 32 bytes"),
        ({"data": [1, 2], "labels": [0, 1]}, "has no images of 3 × 32 × 32 bytes"),
        ({"data": random_pixels(0, 2, 3071), "labels": [0, 1]}, "has no images of 3 × 32 × 32 bytes"),
        ({"data": random_pixels(0, 2, 3, 1024), "labels": [0, 1]}, "has no images of 3 × 32 × 32 bytes"),
        ({"data": random_pixels(0, 2, 3072)}, "has no label from 0 to 9 for each of its 2 images"),
        ({"data": random_pixels(0, 2, 3072), "labels": [0]}, "has no label from 0 to 9 for each of its 2 images"),
        ({"data": random_pixels(0, 2, 3072), "labels": [0, 10]}, "has no label from 0 to 9"),
        ({"data": random_pixels(0, 2, 3072), "labels": [0, -1]}, "has no label from 0 to 9"),
        ({"data": random_pixels(0, 2, 3072), "labels": [0, "1"]}, "has no label from 0 to 9"),
    ],
)
def test_a_file_that_holds_something_else_is_named(own_root, content, fault):
    file = own_root / "cifar-10-batches-py" / "data_batch_2"
    file.write_bytes(python2_pickle(content))
    assert f"'{file}' {fault}" in refusal(own_root)


@pytest.mark.parametrize("names", [CIFAR10_NAMES[:9], "airplane", list(range(10))])
def test_names_of_ten_classes_are_needed(own_root, names):
    file = own_root / "cifar-10-batches-py" / "batches.meta"
    file.write_bytes(python2_pickle({"label_names": names}))
    assert f"'{file}' does not name 10 classes" in refusal(own_root)


def test_a_class_without_images_is_named(own_root):
    content = {"data": random_pixels(0, 10, 3072), "labels": [3] * 10}
    (own_root / "cifar-10-batches-py" / "test_batch").write_bytes(python2_pickle(content))
    assert "samples of class 'airplane' in " in refusal(own_root)


def test_arrays_of_python_3_are_read_as_well(own_root):
    folder = own_root / "cifar-10-batches-py"
    before = pairs(cifar10(root=str(own_root)).test)
    content = pickle.loads((folder / "test_batch").read_bytes(), encoding="latin1")
    assert isinstance(content["data"], np.ndarray)
    (folder / "test_batch").write_bytes(pickle.dumps(content, protocol=4))
    assert pairs(cifar10(root=str(own_root)).test) == before
