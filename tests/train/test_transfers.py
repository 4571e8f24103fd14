"""A training step never waits for a number to come back from the device, but once, between two steps."""

import pytest
import torch
from torch.nn import functional as F

from bitsearch.learnable import quantize
from bitsearch.models import make_network
from bitsearch.quant import recomputation
from bitsearch.quant.recomputation import recomputed_operands

READS = ("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "cpu", "numpy", "__array__", "nonzero")
"""Every way in which a tensor's values become Python's or NumPy's."""


@pytest.fixture
def no_good_cuts(monkeypatch):
    """Forbids, once called, that any tensor's value is read; returns how to allow it again."""

    def forbid():
        patch = monkeypatch.context()
        patched = patch.__enter__()
        for name in READS:

            def refuse(*arguments, name=name, **options):
                raise AssertionError(f"Tensor.{name} reads a value back")

            patched.setattr(torch.Tensor, name, refuse)
        return lambda: patch.__exit__(None, None, None)

    return forbid


def test_the_guard_catches_every_way_of_reading(no_good_cuts):
    allow = no_good_cuts()
    number = torch.tensor(1)
    for read in (bool, float, int, torch.Tensor.item, torch.Tensor.tolist, [0, 1].__getitem__):
        with pytest.raises(AssertionError, match="reads a value back"):
            read(number)
    allow()
    assert int(number) == 1


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize("metric", ["bit_budget", "bit_budget_mac", "s_ace", "weight_memory"])
def test_forward_backward_and_penalty_read_no_value(no_good_cuts, monkeypatch, metric, granularity, recompute):
    monkeypatch.setattr(recomputation, "MIN_ELEMENTS", 1)
    monkeypatch.setattr(recomputation, "_is_active", recompute)
    torch.manual_seed(0)
    network = make_network("resnet20", {"width": 4}, input_shape=(3, 8, 8), classes=10)
    images, labels = torch.randn(4, 3, 8, 8), torch.randint(10, (4,))
    learnable = quantize(network, images, granularity=granularity)
    budget = learnable.budget("2x", metric)
    # Steps are set on the first batch, and geometry is put on the device.
    learnable(images)
    learnable.penalty(budget, steps=10)
    allow = no_good_cuts()
    loss = F.cross_entropy(learnable.network(images), labels) + learnable.penalty(budget, steps=10)
    loss.backward()
    allow()
    assert all(parameter.grad is not None for parameter in learnable.parameters())


def test_between_two_steps_the_latents_of_all_layers_come_in_one_transfer(monkeypatch):
    torch.manual_seed(0)
    network = make_network("resnet20", {"width": 4}, input_shape=(3, 8, 8), classes=10)
    images = torch.randn(4, 3, 8, 8)
    learnable = quantize(network, images)
    learnable(images)
    reads = []
    for name in READS:
        plain = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda *arguments, plain=plain, name=name: reads.append(name) or plain(*arguments)
        )
    learnable.round_latents()
    assert reads == ["tolist"]


def test_with_recomputation_backward_reads_no_value_either(no_good_cuts):
    torch.manual_seed(0)
    network = make_network("digits_cnn", {"width": 4}, input_shape=(1, 32, 32), classes=10)
    images, labels = torch.randn(16, 1, 32, 32), torch.randint(10, (16,))
    learnable = quantize(network, images)
    with recomputed_operands():
        learnable(images)
        allow = no_good_cuts()
        F.cross_entropy(learnable.network(images), labels).backward()
        allow()
