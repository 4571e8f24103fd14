"""A user's samples are checked when they are read, whatever part of the run reads them."""

import copy
import pickle

import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from bitsearch.data import Splits, batches
from bitsearch.data.checked_samples import CheckedSamples
from bitsearch.data.checks import CHECKED_SAMPLES, checked_splits
from bitsearch.data.splits import labels_of
from bitsearch.errors import InputError

BAD = CHECKED_SAMPLES + 5
"""Index of the sample that is wrong: none of the first, which are looked at before anything else."""
COUNT = BAD + 3


class Read(Dataset):
    """Samples of eight values and two classes, read one by one; one of them is something else."""

    def __init__(self, bad=None):
        self.bad = bad

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        if index == BAD and self.bad is not None:
            return self.bad() if callable(self.bad) else self.bad
        return torch.full((8,), 0.5), index % 2


def raises():
    raise OSError("no such recording")


GOOD = torch.full((8,), 0.5)
NAN = GOOD.clone()
NAN[3] = float("nan")
BADS = {
    "NaN": ((NAN, 1), "its input is nan at [3]; mend or leave out"),
    "infinite": ((GOOD / 0, 1), "its input is inf at [0]; mend or leave out"),
    "negative label": ((GOOD, -1), "its label is -1; number the classes from 0"),
    "high label": ((GOOD, 2), "its label is 2, but there are 2 classes, numbered from 0"),
    "float label": ((GOOD, 1.0), "its label is 1.0; give the class's number"),
    "doubles": ((GOOD.double(), 1), "inputs are float64; they must be float32"),
    "bytes": ((GOOD.byte(), 1), "inputs are uint8; they must be float32"),
    "nothing": (lambda: None, "is NoneType; a sample is a pair (input, label)"),
    "no input": ((None, 1), "its input is NoneType; give a float32 tensor"),
    "three parts": ((GOOD, 1, 2), "is tuple of 3; a sample is a pair"),
    "another shape": ((GOOD[:7], 1), "has shape [7], others have [8]; bring them to one"),
    "numbers": ((GOOD.long(), 1), "has inputs of int64, others have float32; bring them to one"),
    "sparse": ((GOOD.to_sparse(), 1), "its input is a sparse_coo tensor; give a dense one"),
    "nested": (
        (torch.nested.nested_tensor([GOOD], layout=torch.jagged), 1),
        "its input is a nested tensor; give a dense one",
    ),
    "without values": ((GOOD.to("meta"), 1), "its input is on the device meta, and has no values"),
    "nested label": (
        (GOOD, torch.nested.nested_tensor([GOOD], layout=torch.jagged)),
        "its label is no dense tensor; give the class's",
    ),
    "label without a value": ((GOOD, torch.tensor(1, device="meta")), "its label is a meta tensor; give the class's"),
    "unreadable": (raises, "reading sample 37 failed at "),
}


def splits(**bad):
    parts = {part: Read(bad.get(part)) for part in ("train", "validation", "test")}
    return checked_splits(Splits(**parts, input_shape=(8,), classes=2), "mine:make")


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("kind", BADS)
def test_one_line_names_part_sample_and_value(kind, part):
    bad, message = BADS[kind]
    checked = splits(**{part: bad})
    for other in {"train", "validation", "test"} - {part}:
        assert sum(len(labels) for _, labels in batches(checked.split(other), 8)) == COUNT
    generator = torch.Generator().manual_seed(0)
    for order in (None, generator):
        with pytest.raises(InputError) as caught:
            list(batches(checked.split(part), 8, order))
        text = str(caught.value)
        assert message in text
        assert text.startswith(f"data set 'mine:make': {part}")
        assert f"sample {BAD}" in text
        assert len(text.splitlines()) == 1


class Workers(Read):
    """Read by processes of its own."""

    workers = 1


@pytest.mark.processes
def test_so_it_does_from_another_process():
    parts = [Workers((NAN, 1)), Workers(), Workers()]
    checked = checked_splits(Splits(*parts, input_shape=(8,), classes=2), "mine:make")
    with pytest.raises(InputError) as caught:
        list(batches(checked.train, 8))
    assert str(caught.value) == (
        f"data set 'mine:make': train sample {BAD}: its input is nan at [3]; mend or leave out such samples"
    )


class Augmenting(Read):
    """With all that a data set may have beside its samples."""

    labels = [index % 2 for index in range(COUNT)]

    def augmented(self, index, seed):
        x, label = self[index]
        return x + seed % 2, label


def test_what_a_data_set_has_beside_its_samples_is_still_there():
    parts = [Augmenting(), Augmenting(), Augmenting()]
    checked = checked_splits(Splits(*parts, input_shape=(8,), classes=2), "mine:make")
    assert labels_of(checked.train).tolist() == Augmenting.labels
    inputs, _ = next(iter(batches(checked.train, COUNT, torch.Generator().manual_seed(0))))
    assert set(inputs.unique().tolist()) == {0.5, 1.5}
    for other in (copy.deepcopy(checked.train), pickle.loads(pickle.dumps(checked.train))):
        assert isinstance(other, CheckedSamples)
        assert len(other) == COUNT
        assert torch.equal(other[0][0], GOOD)
    with pytest.raises(AttributeError):
        _ = checked.train.augment


def test_an_augmentation_is_checked_too():
    class Spoiling(Augmenting):
        def augmented(self, index, seed):
            return (NAN if index == BAD else GOOD), 0

    checked = checked_splits(Splits(Spoiling(), Read(), Read(), input_shape=(8,), classes=2), "mine:make")
    list(batches(checked.train, 8))
    with pytest.raises(InputError, match=rf"train sample {BAD}: its input is nan at \[3\]"):
        list(batches(checked.train, 8, torch.Generator().manual_seed(0)))


def tensors(inputs=None, labels=None):
    inputs = GOOD.repeat(COUNT, 1) if inputs is None else inputs
    return TensorDataset(inputs, torch.arange(COUNT) % 2 if labels is None else labels)


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("half", [False, True])
def test_tensors_in_memory_are_checked_before_anything_is_trained(part, half):
    inputs = GOOD.repeat(COUNT, 1)
    inputs[BAD] = NAN
    bad = tensors(inputs)
    # A part of shuffled tensors is checked in its own order.
    bad = Subset(bad, [*range(BAD - 1), BAD]) if half else bad
    parts = [tensors(), tensors(), tensors()]
    parts[part] = bad
    index, name = BAD - 1 if half else BAD, ("train", "validation", "test")[part]
    with pytest.raises(InputError, match=rf"{name} sample {index}: its input is nan at \[3\]"):
        checked_splits(parts, "mine:make")


def test_labels_beside_the_samples_name_the_sample():
    labels = torch.arange(COUNT) % 2
    labels[BAD] = -1
    with pytest.raises(InputError, match=rf"validation has label -1 \(sample {BAD}\)"):
        checked_splits((tensors(), tensors(labels=labels), tensors()), "mine:make")


@pytest.mark.parametrize("kind", ["tensors", "half of them", "read"])
def test_inputs_that_require_a_gradient_are_taken_without(kind):
    learned = GOOD.repeat(COUNT, 1).requires_grad_()

    class Learned(Read):
        def __getitem__(self, index):
            return learned[index], index % 2

    train = {"tensors": tensors(learned), "half of them": Subset(tensors(learned), range(9)), "read": Learned()}[kind]
    checked = checked_splits((train, tensors(), tensors()), "mine:make")
    inputs, _ = next(iter(batches(checked.train, 4)))
    assert not inputs.requires_grad
    assert torch.equal(inputs, GOOD.repeat(4, 1))
    assert learned.requires_grad


def test_shipped_data_are_not_read_twice():
    parts = [Read(), Read(), Read()]
    checked = checked_splits(Splits(*parts, input_shape=(8,), classes=2), "digits")
    assert [checked.train, checked.validation, checked.test] == parts
