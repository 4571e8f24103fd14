import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from bitsearch.data import Splits
from bitsearch.data.checks import CHECKED_SAMPLES, checked_splits
from bitsearch.errors import InputError


def part(count=5, shape=(2, 3), classes=4, dtype=torch.float32):
    return TensorDataset(torch.ones(count, *shape, dtype=dtype), torch.arange(count) % classes)


def refusal(returned):
    """The message of the InputError, checked to be one line that names the data set."""
    with pytest.raises(InputError) as caught:
        checked_splits(returned, "mine:make")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith("data set 'mine:make'")
    return message


class Slow(Dataset):
    """Samples without labels beside them; counts how often one is read."""

    def __init__(self, labels):
        self.given, self.reads = labels, 0

    def __len__(self):
        return len(self.given)

    def __getitem__(self, index):
        self.reads += 1
        return torch.zeros(3), self.given[index]


def test_splits_are_what_they_were():
    splits = Splits(part(), part(), part(), input_shape=(2, 3), classes=9)
    assert checked_splits(splits, "mine:make") is splits


@pytest.mark.parametrize("form", ["tuple", "list", "dict"])
def test_three_data_sets_become_splits(form):
    parts = (part(6), part(3), part(2))
    by_name = {"test": parts[2], "train": parts[0], "validation": parts[1]}
    splits = checked_splits({"tuple": parts, "list": list(parts), "dict": by_name}[form], "mine:make")
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [6, 3, 2]
    assert (splits.input_shape, splits.classes, splits.frames) == ((2, 3), 4, None)


def test_classes_are_counted_over_all_training_labels():
    labels = [0] * CHECKED_SAMPLES + [6]
    train = Slow(labels)
    assert checked_splits((train, Slow([0]), Slow([1])), "mine:make").classes == 7
    whole = TensorDataset(torch.zeros(40, 3), torch.tensor([*labels, *[0] * 7]))
    assert checked_splits((Subset(whole, range(33)), part(2, (3,)), part(2, (3,))), "mine:make").classes == 7


def test_labels_that_stand_beside_the_samples_are_not_read_one_by_one():
    train = Slow([0] * 100 + [6])
    train.targets = train.given
    assert checked_splits((train, Slow([0]), Slow([1])), "mine:make").classes == 7
    assert train.reads == CHECKED_SAMPLES
    # A transform of the labels makes the kept ones worthless.
    train.target_transform = int
    checked_splits((train, Slow([0]), Slow([1])), "mine:make")
    assert train.reads == 2 * CHECKED_SAMPLES + 101


def test_event_data_keep_their_time_axis():
    splits = Splits(part(), part(), part(), input_shape=(2, 3), classes=4, frames=2)
    assert checked_splits(splits, "mine:make").frames == 2
    message = refusal(Splits(part(), part(), part(), input_shape=(2, 3), classes=4, frames=5))
    assert "input_shape is [2, 3]; with frames=5, it starts with that" in message


def test_what_is_no_three_data_sets():
    assert "returned 2 data sets; return" in refusal((part(), part()))
    assert "random_split divides one" in refusal((part(), part()))
    assert "returned NoneType; return bitsearch.data.Splits, or three" in refusal(None)
    assert "returned TensorDataset" in refusal(part())
    assert "returned the keys train, test; give train, validation, test" in refusal({"train": part(), "test": part()})
    assert "train is a DataLoader" in refusal((DataLoader(part()), part(), part()))
    assert "validation is int; give a torch Dataset" in refusal((part(), 3, part()))
    same = part()
    assert "two of train, validation, test are the same" in refusal((part(), same, same))

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(())

    assert "test is Stream; give a torch Dataset" in refusal((part(), part(), Stream()))


def test_an_empty_part():
    assert "validation is empty" in refusal((part(), part(0), part()))


def listed(sample):
    return ([sample], part(2, (3,)), part(2, (3,)))


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (torch.zeros(3), "is Tensor; a sample is a pair (input, label)"),
        ((torch.zeros(3), 1, 2), "is tuple of 3; a sample is a pair"),
        ((Image.new("L", (2, 2)), 1), "its input is PIL.Image.Image; give a float32 tensor"),
        ((np.zeros(3), 1), "its input is numpy.ndarray; give a float32 tensor"),
        (([0.0], 1), "its input is list; give"),
        ((torch.zeros(3, dtype=torch.uint8), 1), "inputs are uint8; they must be float32, so divide by 255"),
        ((torch.zeros(3).double(), 1), "inputs are float64; they must be float32, so convert them by .float()"),
        ((torch.tensor([0.0, float("nan"), 1.0]), 1), "train sample 0: its input is nan at [1]; mend or leave out"),
        ((torch.tensor([0.0, 1.0, -float("inf")]), 1), "train sample 0: its input is -inf at [2]; mend"),
        ((torch.zeros(3), 1.0), "its label is 1.0; give the class's number"),
        ((torch.zeros(3), True), "its label is True; give"),
        ((torch.zeros(3), "cat"), "its label is 'cat'; give"),
        ((torch.zeros(3), torch.eye(4)[1]), "its label is a float32 tensor of shape (4,); give"),
        ((torch.zeros(3), torch.tensor(1, dtype=torch.int32)), "its label is a int32 tensor of shape (); give"),
        ((torch.zeros(3), -1), "train has label -1 (sample 0); number the classes from 0"),
        ((torch.zeros(3), 10**9), "train has a label 1000000000, and so 1000000001 classes; number at most 1000000"),
    ],
)
def test_a_sample_that_cannot_be_trained_on(sample, said):
    assert said in refusal(listed(sample))


@pytest.mark.parametrize("label", [1, np.int64(1), torch.tensor(1)])
def test_labels_of_every_kind_that_makes_an_int64_batch(label):
    assert checked_splits(listed((torch.zeros(3), label)), "mine:make").classes == 2


def test_samples_of_different_shapes():
    train = [(torch.zeros(3, 8), 0), (torch.zeros(3, 9), 1)]
    message = refusal((train, part(2, (3, 8)), part(2, (3, 8))))
    assert "samples have different shapes, [3, 8] and, train sample 1, [3, 9]" in message
    assert "test sample 0, [4, 8]" in refusal((part(2, (3, 8)), part(2, (3, 8)), part(2, (4, 8))))
    splits = Splits(part(), part(), part(), input_shape=(3, 2), classes=4)
    assert "train sample 0 has shape [2, 3], not input_shape [3, 2]" in refusal(splits)


def test_inputs_of_different_kinds():
    numbers = part(2, (3,), dtype=torch.long)
    message = "test sample 0 has inputs of int64, others have float32; bring them to one"
    assert message in refusal((part(2, (3,)), part(2, (3,)), numbers))
    mask = torch.ones(3, dtype=torch.bool)
    several = [({"x": torch.zeros(3), "mask": mask}, 0), ({"mask": mask, "x": mask}, 1)]
    message = "train sample 1 has inputs of mask bool and x bool, others have x float32 and mask bool; bring"
    assert message in refusal((several, several[:1], [*several[:1]]))
    backwards = [({"mask": mask, "x": torch.zeros(3)}, 0)]
    assert checked_splits((several[:1] * 2, backwards * 2, backwards * 3), "mine:make").classes == 1


def test_labels_beyond_the_classes():
    splits = Splits(
        part(), part(CHECKED_SAMPLES + 9, classes=CHECKED_SAMPLES + 9), part(), input_shape=(2, 3), classes=4
    )
    last = CHECKED_SAMPLES + 8
    assert f"validation has label {last} (sample {last}), but there are 4 classes, numbered" in refusal(splits)
    assert "test has label 4 (sample 4), but there are 4 classes" in refusal((part(), part(), part(5, classes=5)))
    negative = TensorDataset(torch.zeros(2, 2, 3), torch.tensor([-1, 0]))
    assert "test has label -1" in refusal((part(), part(), negative))


def test_a_sample_that_cannot_be_read():
    class Broken(Slow):
        def __getitem__(self, index):
            raise KeyError("image")

    assert "train: reading sample 0 failed at " in refusal((Broken([0]), part(), part()))
    assert "test_data_checks.py:" in refusal((Broken([0]), part(), part()))
