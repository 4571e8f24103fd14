"""Batch norm that trains on a single sample, in one process; several are in tests/train/test_fabric.py."""

import pytest
import torch
from spikingjelly.activation_based import layer
from torch import nn

from bitsearch.errors import InputError
from bitsearch.layers.batch_norm import shared_batch_norm


def used(norm):
    """With statistics and an affine map of its own."""
    with torch.no_grad():
        norm.running_mean.copy_(torch.tensor([1.0, -2.0, 0.5]))
        norm.running_var.copy_(torch.tensor([4.0, 0.25, 1.0]))
        norm.weight.copy_(torch.tensor([1.0, 2.0, -1.0]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, 3.0]))
        norm.num_batches_tracked.fill_(7)
    return norm.train()


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d(3, eps=2.0**-40), (1, 3)),
        (nn.BatchNorm2d(3, eps=2.0**-40), (1, 3, 1, 1)),
        (layer.BatchNorm1d(3, eps=2.0**-40), (1, 3)),
        (layer.BatchNorm1d(3, eps=2.0**-40, step_mode="m"), (1, 1, 3, 1)),
    ],
)
def test_a_single_value_a_channel_is_normalized_by_the_running_statistics(norm, shape):
    used(norm)
    x = torch.tensor([3.0, -1.0, 0.0]).view(shape).requires_grad_()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    with shared_batch_norm(norm):
        y = norm(x)
    y.sum().backward()
    # (3 − 1)/2; 2·(−1 + 2)/½ + 1; −(0 − ½)/1 + 3.
    assert y.flatten().tolist() == pytest.approx([1.0, 5.0, 3.5])
    assert x.grad.flatten().tolist() == pytest.approx([0.5, 4.0, -1.0])
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_several_are_normalized_by_their_own_as_outside_of_it():
    norm, outside = used(nn.BatchNorm1d(3)), used(nn.BatchNorm1d(3))
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    with shared_batch_norm(norm):
        assert torch.equal(norm(x), outside(x))
    assert type(norm) is nn.BatchNorm1d
    assert all(torch.equal(value, outside.state_dict()[name]) for name, value in norm.state_dict().items())


def test_without_running_statistics_there_is_one_line():
    norm = nn.BatchNorm1d(3, track_running_stats=False)
    with (
        shared_batch_norm(norm),
        pytest.raises(InputError, match="without running statistics cannot be trained on a single sample; set its"),
    ):
        norm(torch.zeros(1, 3))


def test_one_that_never_sees_more_says_so():
    norm = nn.BatchNorm1d(3)
    with (
        shared_batch_norm(norm),
        pytest.warns(UserWarning, match="has not seen two samples together"),
    ):
        norm(torch.zeros(1, 3))
