import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from bitsearch.data import Splits, batches
from bitsearch.data.targets import NO_LABEL


def test_batches_of_event_data_are_time_first():
    inputs, labels = torch.randn(5, 3, 2, 4, 4), torch.arange(5)
    parts = [TensorDataset(inputs, labels) for _ in range(3)]
    splits = Splits(*parts, input_shape=(3, 2, 4, 4), classes=5, frames=3)
    for part in (splits.train, splits.validation, splits.test):
        first, second = list(batches(part, 4))
        assert first[0].shape == (3, 4, 2, 4, 4)
        assert second[0].shape == (3, 1, 2, 4, 4)
        torch.testing.assert_close(torch.cat([first[0], second[0]], dim=1).transpose(0, 1), inputs, rtol=0, atol=0)
    shuffled, order = next(iter(batches(splits.train, 5, torch.Generator().manual_seed(1))))
    torch.testing.assert_close(shuffled.transpose(0, 1), inputs[order], rtol=0, atol=0)


def test_batches_without_a_time_axis_are_as_the_samples_are():
    samples = TensorDataset(torch.randn(5, 3, 4), torch.arange(5))
    Splits(samples, samples, samples, input_shape=(3, 4), classes=5)
    assert next(iter(batches(samples, 4)))[0].shape == (4, 3, 4)


@pytest.mark.parametrize("tensors", [True, False], ids=["in memory", "one by one"])
@pytest.mark.parametrize("processes", [2, 3])
def test_shares_of_every_batch_make_up_the_batch(tensors, processes):
    inputs, labels = torch.randn(11, 2), torch.arange(11)
    samples = TensorDataset(inputs, labels)
    samples = samples if tensors else Subset(samples, range(11))
    whole = list(batches(samples, 4, torch.Generator().manual_seed(3)))
    shares = [
        list(batches(samples, 4, torch.Generator().manual_seed(3), share=(number, processes)))
        for number in range(processes)
    ]
    for index, (_, expected) in enumerate(whole):
        found = [share[index] for share in shares]
        assert all(torch.equal(given, inputs[kept]) for given, kept in found)
        assert torch.equal(torch.cat([kept for _, kept in found]).sort().values, expected.sort().values)
        assert max(len(kept) for _, kept in found) - min(len(kept) for _, kept in found) <= 1


def test_a_share_without_a_sample_of_its_own_gets_one_without_a_label():
    inputs, labels = torch.randn(5, 2), torch.arange(5)
    first, last = list(batches(TensorDataset(inputs, labels), 4, share=(1, 2)))
    assert first[1].tolist() == [1, 3]
    assert last[1].tolist() == [NO_LABEL]
    assert torch.equal(last[0], inputs[4:])


class Shifted(TensorDataset):
    def augment(self, inputs, generator):
        return inputs + torch.rand(len(inputs), 1, generator=generator)


def test_shares_of_augmented_batches_keep_a_common_order():
    inputs, labels = torch.arange(11.0)[:, None] * 10, torch.arange(11)
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    shifts = []
    for _ in range(2):
        seen = []
        for number, generator in enumerate(generators):
            for given, kept in batches(Shifted(inputs, labels), 4, generator, share=(number, 2)):
                seen += kept.tolist()
                shifts += (given - inputs[kept]).flatten().tolist()
        assert sorted(seen) == list(range(11))
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
    assert all(0 <= shift < 1 for shift in shifts)
    assert len({round(shift, 3) for shift in shifts}) > 15
