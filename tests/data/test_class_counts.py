import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from bitsearch.data.class_counts import class_counts
from bitsearch.data.loaders import LoadedSamples
from bitsearch.data.splits import Splits
from bitsearch.errors import InputError

LABELS = torch.tensor([2, 0, 2, 2, 1, 2])


class OneByOne(torch.utils.data.Dataset):
    """Keeps no labels beside its samples."""

    def __len__(self):
        return len(LABELS)

    def __getitem__(self, index):
        return torch.zeros(1), int(LABELS[index])


TENSORS = TensorDataset(torch.zeros(6, 1), LABELS)
LOADED = LoadedSamples(DataLoader(TENSORS, 4), "validation")


@pytest.mark.parametrize("samples", [TENSORS, OneByOne(), Subset(OneByOne(), range(6)), LOADED])
def test_counts_of_every_kind_of_samples(samples):
    splits = Splits(TENSORS, samples, None, input_shape=(1,), classes=4)
    assert class_counts(splits, "validation") == {"0": 1, "1": 1, "2": 4, "3": 0}


def test_classes_have_their_names_unless_two_are_alike():
    named = {"input_shape": (1,), "classes": 3}
    splits = Splits(TENSORS, TENSORS, None, class_names=("cat", "dog", "owl"), **named)
    assert class_counts(splits, "validation") == {"cat": 1, "dog": 1, "owl": 4}
    alike = Splits(TENSORS, TENSORS, None, class_names=("cat", "cat", "owl"), **named)
    assert list(class_counts(alike, "validation")) == ["0", "1", "2"]


def test_a_part_that_is_not_there_is_named():
    with pytest.raises(InputError, match="there is no test split"):
        class_counts(Splits(TENSORS, TENSORS, None, input_shape=(1,), classes=3), "test")
