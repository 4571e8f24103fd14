import gzip
import hashlib
from dataclasses import replace

import pytest
import torch
from image_files import write_cifar10, write_mnist
from torch.utils.data import TensorDataset

from bitsearch.data import DATA_SETS
from bitsearch.data.check import check_data
from bitsearch.data.splits import labels_of
from bitsearch.errors import InputError
from bitsearch.train.tasks import TASKS


@pytest.fixture
def root(tmp_path):
    return write_cifar10(tmp_path)


def publish(monkeypatch, root, name, **counts):
    """Let the published sums and counts of a data set be those of the files in ``root``."""
    entry = DATA_SETS[name]
    sums = {file: hashlib.md5((root / file).read_bytes()).hexdigest() for file in entry.files}
    monkeypatch.setitem(DATA_SETS, name, replace(entry, files=sums, counts=counts or entry.counts))


def test_the_embedded_digits_are_as_published():
    found = check_data("digits", {})
    assert found.problems == []
    assert found.matches == ["the counts"]
    assert found.shape == (1, 8, 8)
    assert {split: int(counts.sum()) for split, counts in found.counts.items()} == {
        "train": 1077,
        "validation": 360,
        "test": 360,
    }


def test_other_files_and_counts_are_named(root):
    problems = check_data("cifar10", {"root": str(root)}).problems
    assert len(problems) == 7 + 2
    for file, problem in zip(DATA_SETS["cifar10"].files, problems, strict=False):
        digest = hashlib.md5((root / file).read_bytes()).hexdigest()
        assert problem == (
            f"cifar10: '{root / file}' is not the published file: its MD5 sum is {digest}, "
            f"not {DATA_SETS['cifar10'].files[file]}; download it again"
        )
    assert problems[7:] == [
        "cifar10: training and validation split: samples 10 of class 0, not 5,000 (other classes that differ: 9)",
        "cifar10: test split: samples 3 of class 0, not 1,000 (other classes that differ: 9)",
    ]


@pytest.mark.parametrize("counts", [{"train": (10,) * 10, "test": (3,) * 10}, {"train": 100, "test": 30}, {"all": 130}])
def test_what_is_published_is_found(root, monkeypatch, counts):
    publish(monkeypatch, root, "cifar10", **counts)
    for share in (0.1, 0.4):
        found = check_data("cifar10", {"root": str(root), "validation_share": share})
        assert found.problems == []
        assert found.matches == ["the MD5 sums of 7 files", "the counts"]
        assert found.counts["validation"].tolist() == [10 * share] * 10
    monkeypatch.chdir(root.parent)
    assert check_data("cifar10", {"root": root.name}).problems == []


@pytest.mark.parametrize(
    ("counts", "problem"),
    [
        ({"train": 99}, "training and validation split: 100 samples, not 99"),
        ({"test": (3,) * 9 + (4,)}, "test split: samples 3 of class 9, not 4"),
        ({"all": (13,) * 8 + (12, 14)}, "all splits: samples 13 of class 8, not 12 (other classes that differ: 1)"),
    ],
)
def test_a_count_that_differs_is_named(root, monkeypatch, counts, problem):
    publish(monkeypatch, root, "cifar10", **counts)
    found = check_data("cifar10", {"root": str(root)})
    assert found.problems == [f"cifar10: {problem}"]
    assert found.matches == ["the MD5 sums of 7 files"]


def test_a_file_that_cannot_be_read_is_named_beside_its_sum(root, monkeypatch):
    publish(monkeypatch, root, "cifar10", train=100, test=30)
    file = root / "cifar-10-batches-py" / "data_batch_4"
    file.write_bytes(file.read_bytes()[:-10])
    found = check_data("cifar10", {"root": str(root)})
    assert found.counts == {}
    wrong_sum, unreadable = found.problems
    assert f"'{file}' is not the published file" in wrong_sum
    assert f"cannot read '{file}'" in unreadable


@pytest.mark.parametrize("packed", [False, True])
def test_files_of_other_images_are_named_packed_or_not(tmp_path, packed):
    found = check_data("mnist", {"root": str(write_mnist(tmp_path, packed=packed))})
    assert len(found.problems) == 6
    suffix = ".gz" if packed else ""
    for part, problem in zip(("train-images-idx3", "train-labels-idx1"), found.problems, strict=False):
        assert f"'{tmp_path / 'MNIST' / 'raw' / part}-ubyte{suffix}' is not the published file" in problem
    assert "samples 10 of class 0, not 5,923" in found.problems[4]


def test_files_packed_anew_are_the_published_ones_and_no_others(tmp_path, monkeypatch):
    name = "fashion_mnist"
    root = write_mnist(tmp_path, "FashionMNIST", packed=True)
    files = [root / file for file in DATA_SETS[name].files]
    contents = {
        file: hashlib.md5(gzip.decompress((root / file).read_bytes())).hexdigest() for file in DATA_SETS[name].files
    }
    publish(monkeypatch, root, name, train=100, test=30)
    monkeypatch.setitem(DATA_SETS, name, replace(DATA_SETS[name], contents=contents))
    for file in files:
        # Debian's files have another time, and no name, in their headers.
        file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), mtime=0x5EDA0AED))
    found = check_data(name, {"root": str(root)})
    assert found.problems == []
    assert found.matches == ["the MD5 sums of 4 files", "the counts"]
    flat = root / "flat"
    flat.mkdir()
    for file in files:
        (flat / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    assert check_data(name, {"root": str(flat)}).matches == found.matches

    content = bytearray(gzip.decompress(files[0].read_bytes()))
    content[-1] ^= 1
    files[0].write_bytes(gzip.compress(bytes(content)))
    files[1].write_bytes(files[1].read_bytes()[:-9])
    problems = check_data(name, {"root": str(root)}).problems
    assert [str(file) in problem for file, problem in zip(files, problems, strict=False)][:2] == [True, True]
    assert all("is not the published file" in problem for problem in problems[:2])


def test_a_limit_leaves_nothing_to_count(root):
    with pytest.raises(InputError, match="every sample is counted; leave limit out"):
        check_data("cifar10", {"root": str(root), "limit": 3})


def test_options_that_are_wrong_are_a_problem():
    assert "no root given" in check_data("cifar10", {}).problems[0]
    assert "no data set named 'cifar'" in check_data("cifar", {}).problems[0]
    assert "does not take" in check_data("digits", {"size": 3}).problems[0]


OWN = """
import torch
from torch.utils.data import TensorDataset
from bitsearch.data import Splits

def make(*, split_seed, shape=(2, 3), value=0.0):
    parts = [TensorDataset(torch.full((4, 2, 3), value), torch.tensor([0, 1, 0, 1])) for _ in range(3)]
    return Splits(*parts, input_shape=tuple(shape), classes=2)
"""


def test_of_data_of_ones_own_shapes_and_values_are_looked_at(tmp_path, monkeypatch):
    (tmp_path / "checked_data.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    found = check_data("checked_data:make", {})
    assert (found.problems, found.matches, found.shape) == ([], [], (2, 3))
    assert found.counts["test"].tolist() == [2, 2]
    [problem] = check_data("checked_data:make", {"shape": [2, 4]}).problems
    assert problem.endswith("train sample 0 has shape [2, 3], not input_shape [2, 4]")
    [problem] = check_data("checked_data:make", {"value": float("nan")}).problems
    assert "train sample 0: its input is nan at [0, 0]" in problem


SEVERAL = """
import torch
from torch.utils.data import StackDataset

def make(named=True):
    inputs = {"image": torch.zeros(4, 2, 3), "age": torch.zeros(4, 1)}
    stacked = StackDataset(**inputs) if named else StackDataset(*inputs.values())
    return tuple(StackDataset(stacked, torch.tensor([0, 1, 0, 1])) for _ in range(3))
"""


def test_of_several_inputs_each_is_looked_at(tmp_path, monkeypatch):
    (tmp_path / "several_data.py").write_text(SEVERAL)
    monkeypatch.syspath_prepend(tmp_path)
    named, placed = (check_data("several_data:make", {"named": value}) for value in (True, False))
    assert (named.problems, named.shape) == ([], {"image": (2, 3), "age": (1,)})
    assert (placed.problems, placed.shape) == ([], ((2, 3), (1,)))
    assert placed.counts["train"].tolist() == [2, 2]


OTHER_TARGETS = """
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

TARGETS = {
    "values": torch.tensor([0.5, 2.0, -1.5, 1.0]),
    "maps": torch.tensor([[0, 2], [1, 1], [-100, 2], [3, 0]]),
    "flags": torch.tensor([[0, 1], [1, 1], [0, 0], [1, 0]]).float(),
}

class OneByOne(Dataset):
    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]

def make(targets, kind, wrong=None):
    tensors = TARGETS[targets].clone()
    if wrong is not None:
        tensors.view(-1)[-1] = wrong
    samples = TensorDataset(torch.zeros(4, 3), tensors)
    order = range(4)
    parts = {"memory": lambda: TensorDataset(*samples.tensors), "part": lambda: Subset(samples, order),
             "one by one": lambda: OneByOne(samples)}
    return {"train": parts[kind](), "validation": parts[kind]()}
"""


@pytest.mark.parametrize("kind", ["memory", "part", "one by one"])
@pytest.mark.parametrize(
    ("task", "targets", "limits", "wrong", "said"),
    [
        ("regression", "values", (-1.5, 2.0), float("nan"), "train sample 3: its target holds nan"),
        ("own", "values", (-1.5, 2.0), float("inf"), "train sample 3: its target holds inf"),
        ("sequence", "maps", (0.0, 3.0), -1, "train sample 3: its target holds class -1"),
        ("multi_label", "flags", (0.0, 1.0), 0.5, "train sample 3: its target is [1.0, 0.5]; give a tensor of one 0"),
    ],
)
def test_targets_that_are_no_classes_are_all_read(kind, task, targets, limits, wrong, said, tmp_path, monkeypatch):
    (tmp_path / "other_targets.py").write_text(OTHER_TARGETS)
    monkeypatch.syspath_prepend(tmp_path)
    options = {"targets": targets, "kind": kind}
    found = check_data("other_targets:make", options, TASKS[task].targets)
    # There is no test part, which is none's fault.
    assert (found.problems, found.sizes, found.counts) == ([], {"train": 4, "validation": 4}, {})
    assert found.ranges == {"train": limits, "validation": limits}
    [problem] = check_data("other_targets:make", options | {"wrong": wrong}, TASKS[task].targets).problems
    assert said in problem
    [problem] = check_data("other_targets:make", options).problems
    if targets == "values":
        assert problem.endswith("or name the task that learns something else, such as regression (task.name)")


def test_labels_are_those_of_the_samples():
    labels = torch.tensor([2, 0, 1])

    class Plain(torch.utils.data.Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return torch.zeros(2), labels[index]

    with_attribute = Plain()
    with_attribute.labels = [2, 0, 1]
    for samples in (TensorDataset(torch.zeros(3, 2), labels), Plain(), with_attribute):
        assert torch.equal(labels_of(samples), labels)
