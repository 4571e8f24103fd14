import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from bitsearch.data.loaders import LoadedSamples
from bitsearch.data.splits import batch_count, batches
from bitsearch.errors import InputError


def samples(count=10, shape=(2, 3)):
    inputs = torch.arange(count, dtype=torch.float32).view(-1, *[1] * len(shape)).expand(count, *shape)
    return TensorDataset(inputs.contiguous(), torch.arange(count) % 4)


class Stream(IterableDataset):
    def __init__(self, lengths):
        self.lengths = iter(lengths)

    def __iter__(self):
        for index in range(next(self.lengths)):
            yield torch.full((2,), float(index)), index % 3


def order(loaded, seed):
    generator = torch.Generator().manual_seed(seed)
    return [int(value) for inputs, _ in loaded.batches(generator) for value in inputs.flatten(1)[:, 0]]


def test_a_pass_has_the_loaders_batches_whatever_size_is_asked_for():
    loaded = LoadedSamples(DataLoader(samples(), 4), "train")
    assert [len(labels) for _, labels in batches(loaded, 64)] == [4, 4, 2]
    assert (len(loaded), batch_count(loaded, 64), loaded.batch_size, loaded.input_shape) == (10, 3, 4, (2, 3))


def test_what_is_dropped_is_not_counted():
    loaded = LoadedSamples(DataLoader(samples(), 4, drop_last=True), "train")
    assert (len(loaded), loaded.batch_count) == (8, 2)
    assert sum(len(labels) for _, labels in loaded.batches()) == 8


def test_a_samplers_length_is_the_passs():
    sampler = WeightedRandomSampler([1.0] * 10, 25)
    assert len(LoadedSamples(DataLoader(samples(), 4, sampler=sampler), "train")) == 25


@pytest.mark.parametrize("own", [False, True], ids=["global generator", "generator of its own"])
def test_the_order_of_a_pass_follows_from_the_seed_alone(own):
    generator = torch.Generator().manual_seed(99) if own else None
    loaded = LoadedSamples(DataLoader(samples(), 4, shuffle=True, generator=generator), "train")
    first = order(loaded, 1)
    assert sorted(first) == list(range(10))
    assert order(loaded, 2) != first
    before = torch.random.get_rng_state()
    assert order(loaded, 1) == first
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_samplers_own_generator_is_seeded_too():
    sampler = SubsetRandomSampler(range(10), generator=torch.Generator().manual_seed(3))
    loaded = LoadedSamples(DataLoader(samples(), 4, sampler=sampler), "validation")
    assert order(loaded, 1) == order(loaded, 1)


def test_what_is_measured_is_read_in_order_and_prepared_as_before():
    double = lambda pairs: (2 * torch.stack([x for x, _ in pairs]), torch.stack([y for _, y in pairs]))  # noqa: E731
    loaded = LoadedSamples(DataLoader(samples(), 4, shuffle=True, collate_fn=double), "validation").in_order()
    assert order(loaded, 1) == order(loaded, 2) == [2 * value for value in range(10)]


@pytest.mark.parametrize("time_axis", [0, 1])
def test_frames_come_first(time_axis):
    inputs = torch.arange(10 * 5 * 2, dtype=torch.float32).view(10, 5, 2)
    pairs = [
        (x.transpose(0, 1) if time_axis == 0 else x, y)
        for x, y in DataLoader(TensorDataset(inputs, samples()[:][1]), 4)
    ]
    loaded = LoadedSamples(pairs, "train", time_axis=time_axis)
    assert (loaded.frames, loaded.input_shape, len(loaded)) == (5, (5, 2), 10)
    assert torch.equal(torch.cat([x for x, _ in loaded.batches()], 1), inputs.transpose(0, 1))


def test_streams_are_counted_and_a_pass_that_ends_early_is_told():
    loaded = LoadedSamples(DataLoader(Stream([7, 7, 7, 5]), 3), "train")
    assert (len(loaded), loaded.batch_count) == (7, 3)
    assert sum(len(labels) for _, labels in loaded.batches()) == 7
    with pytest.raises(InputError, match="train gave 5 samples in one pass and has 7; give a loader"):
        list(loaded.batches())


class Failing(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.zeros(2), 1 // (4 - index)


def one(inputs, labels):
    return [(inputs, labels)]


CLASSES = torch.tensor([0, 1, 2])


@pytest.mark.parametrize(
    ("loader", "said"),
    [
        (one(torch.zeros(3, 2), CLASSES.float()), "train batch 0: its labels are torch.float32 [3]"),
        (one(torch.zeros(3, 2), CLASSES[:2]), "train batch 0: inputs [3, 2] and 2 labels"),
        (one(torch.zeros(3, 2), CLASSES - 1), "train batch 0 has the label -1"),
        (one(torch.zeros(3, 2).double(), CLASSES), "train batch 0: inputs are float64"),
        (one(torch.full((3, 2), torch.nan), CLASSES), "train batch 0: its input is nan at [0, 0]"),
        (one(torch.zeros(0, 2), CLASSES[:0]), "train batch 0 is empty"),
        (one(torch.zeros(3, 2), [0, 1, 2]), "train batch 0: its labels are list"),
        ([{"x": 1}], "train batch 0 is dict; a batch is a pair (inputs, labels)"),
        ([(1, 2, 3)], "train batch 0 is tuple of 3"),
        ([], "train gives no batch; give at least one sample"),
        (
            DataLoader(samples(), 16, drop_last=True),
            "train gives no batch; its drop_last leaves out the only one, of fewer samples",
        ),
        (iter([1]), "train is a list_iterator, which can be read once"),
        (
            [(torch.zeros(2, 2), CLASSES[:2]), (torch.zeros(2, 3), CLASSES[:2])],
            "train batch 1 has inputs of shape [3], others have [2]",
        ),
        (
            [(torch.zeros(2, 2), CLASSES[:2]), (torch.zeros(2, 2, dtype=torch.long), CLASSES[:2])],
            "train batch 1 has inputs of int64, others have float32; bring them to one",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_one_line_with_part_and_batch(loader, said):
    with pytest.raises(InputError) as caught:
        LoadedSamples(loader, "train")
    assert str(caught.value).startswith(said)


def test_a_fault_in_the_users_code_is_told_with_its_place():
    loaded = LoadedSamples(DataLoader(Failing(), 2), "train")
    with pytest.raises(InputError, match=r"train: reading batch 2 failed at .*test_loaders.py:\d+: ZeroDivisionError"):
        list(loaded.batches())


def test_a_label_that_the_network_has_no_output_for_is_told():
    loaded = LoadedSamples(DataLoader(samples(), 4), "train")
    loaded.classes = 3
    with pytest.raises(InputError, match="train batch 0 has the label 3; the network has 3 outputs"):
        list(loaded.batches())
