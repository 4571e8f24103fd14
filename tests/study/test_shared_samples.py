"""Parts that are known to share samples are refused before anything is trained, and told by how many."""

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, Subset, SubsetRandomSampler, TensorDataset, random_split

import bitsearch
from bitsearch.errors import InputError
from bitsearch.study.objects import _check_apart

ALL = TensorDataset(torch.rand(40, 6), torch.arange(40) % 3)


class Uncounted(Dataset):
    """A data set whose files are gone."""

    def __len__(self):
        raise OSError("no such file")

    def __getitem__(self, index):
        return ALL[index]


def picked(indices):
    """A loader of these samples alone."""
    return DataLoader(ALL, 4, sampler=SubsetRandomSampler(indices))


SHARING = {
    "a part of the whole": ((ALL, Subset(ALL, range(5))), "share 5 of the 40 samples of one TensorDataset"),
    "two parts": ((Subset(ALL, range(20)), Subset(ALL, range(18, 30))), "share 2 of the 40"),
    "parts of parts": ((Subset(Subset(ALL, range(10, 20)), [0, 3]), Subset(ALL, [13, 30])), "share 1 of the 40"),
    "through loaders": ((DataLoader(Subset(ALL, range(9)), 4), DataLoader(ALL, 4)), "share 9 of the 40"),
    "through samplers": (
        (
            DataLoader(ALL, 4, sampler=SubsetRandomSampler(range(20))),
            DataLoader(ALL, 4, sampler=SubsetRandomSampler([3])),
        ),
        "share 1 of the 40",
    ),
    "no length": ((Uncounted(), ALL), "the samples of train cannot be counted: "),
}


@pytest.mark.parametrize("case", SHARING)
def test_parts_that_share_samples_are_refused(case, tmp_path):
    parts, said = SHARING[case]
    with pytest.raises(InputError) as caught:
        bitsearch.search(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), parts, "4x", out=tmp_path / "run")
    assert said in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_parts_that_share_none_or_of_which_nothing_is_known_are_taken():
    train, validation = random_split(ALL, (0.5, 0.5))
    _check_apart({"train": train, "validation": validation})
    _check_apart({"train": DataLoader(train, 4, shuffle=True), "validation": DataLoader(validation, 4)})
    _check_apart({"train": picked(range(0, 40, 2)), "validation": picked(range(1, 40, 2))})
    own_batches = DataLoader(ALL, batch_sampler=[[0, 1], [2, 3]])
    _check_apart({"train": own_batches, "validation": Subset(ALL, [8])})
    batches = DataLoader(ALL, batch_sampler=BatchSampler(SubsetRandomSampler([0, 1]), 2, drop_last=False))
    _check_apart({"train": batches, "validation": Subset(ALL, [8])})
