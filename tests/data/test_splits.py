import torch
from torch.utils.data import TensorDataset

from bitsearch.data import Splits, batches


def test_batches_of_event_data_are_time_first():
    inputs, labels = torch.randn(5, 3, 2, 4, 4), torch.arange(5)
    parts = [TensorDataset(inputs, labels) for _ in range(3)]
    splits = Splits(*parts, input_shape=(3, 2, 4, 4), classes=5, frames=3)
    for part in (splits.train, splits.validation, splits.test):
        first, second = list(batches(part, 4))
        assert first[0].shape == (3, 4, 2, 4, 4)
        assert second[0].shape == (3, 1, 2, 4, 4)
        torch.testing.assert_close(torch.cat([first[0], second[0]], dim=1).transpose(0, 1), inputs)
    shuffled, order = next(iter(batches(splits.train, 5, torch.Generator().manual_seed(1))))
    torch.testing.assert_close(shuffled.transpose(0, 1), inputs[order])


def test_batches_without_a_time_axis_are_as_the_samples_are():
    samples = TensorDataset(torch.randn(5, 3, 4), torch.arange(5))
    Splits(samples, samples, samples, input_shape=(3, 4), classes=5)
    assert next(iter(batches(samples, 4)))[0].shape == (4, 3, 4)
