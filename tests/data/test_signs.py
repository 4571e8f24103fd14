"""The sign of inputs, over all training samples where they are in memory."""

import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from bitsearch.data import load_data
from bitsearch.data.event_frames import EventFrames
from bitsearch.data.images import Images
from bitsearch.data.signs import has_negative_inputs


def with_one_below_zero(count, place):
    inputs = torch.zeros(count, 3)
    inputs[place, 1] = -1e-6
    return TensorDataset(inputs, torch.zeros(count, dtype=torch.long))


@pytest.mark.parametrize("place", [0, 64, 1023, 1024, 2999])
def test_a_single_value_is_seen_wherever_it_is(place):
    samples = with_one_below_zero(3000, place)
    assert has_negative_inputs(samples) is True
    assert has_negative_inputs(TensorDataset(samples.tensors[0].abs(), samples.tensors[1])) is False


def test_a_subset_has_its_own_samples_alone():
    samples = with_one_below_zero(100, 7)
    assert has_negative_inputs(Subset(samples, [5, 6, 7])) is True
    assert has_negative_inputs(Subset(samples, [5, 6, 8])) is False
    assert has_negative_inputs(Subset(Subset(samples, [5, 6, 7]), [0, 1])) is False
    assert has_negative_inputs(Subset(samples, [])) is False


def test_what_is_kept_in_another_form_is_looked_at_as_it_is_read():
    pixels, labels = torch.full((5, 1, 2, 2), 3, dtype=torch.uint8), torch.zeros(5, dtype=torch.long)
    mean, deviation = torch.full((1, 1, 1), 3.0), torch.ones(1, 1, 1)
    assert has_negative_inputs(Images(pixels, labels, mean, deviation)) is False
    pixels[4, 0, 1, 1] = 2
    assert has_negative_inputs(Images(pixels, labels, mean, deviation)) is True
    assert has_negative_inputs(EventFrames(pixels, labels)) is False


class Lazy(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise AssertionError("read")


def test_what_is_read_one_by_one_is_not_read_for_that():
    assert has_negative_inputs(Lazy()) is None
    assert has_negative_inputs(Subset(Lazy(), [1])) is None


def test_normalized_digits_are_below_zero():
    train = load_data("digits", {}, split_seed=0).train
    assert has_negative_inputs(train) is bool((train[:][0] < 0).any())
