"""A forward pass keeps nothing of the one before, and leaves nothing behind."""

import copy
import gc
import inspect
import pickle
import weakref

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

import bitsearch
from bitsearch.layers.calls import Calls
from bitsearch.layers.passes import bound_passes


class Loop(nn.Module):
    """Frame by frame, and another layer at two places."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.lif, self.b, self.c = nn.Linear(3, 8), neuron.LIFNode(), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        """Of frames ``[T, N, 3]``."""
        total = 0
        for frame in x:
            total = total + self.b(self.lif(self.a(frame)))
        return self.c(total) + self.c(total.relu())


class Still(nn.Module):
    """The same input at every step."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x):
        return sum(self.b(self.a(x).relu()) for _ in range(3))


def quantized(network, x, **options):
    made = bitsearch.quantize(network, x, **options)
    made(x)
    return made.eval()


@pytest.fixture
def loop():
    x = 4 * torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(0))
    return quantized(Loop(), x, time_axis=True), x


def test_a_network_may_be_called_by_its_forward(loop):
    network, x = loop
    expected = network(x)
    for _ in range(2):
        assert torch.equal(network.network.forward(x), expected)
    assert torch.equal(type(network.network).forward(network.network, x), expected)


def test_a_pass_that_fails_leaves_nothing_to_the_next(loop):
    network, x = loop
    expected = network(x)
    with pytest.raises(RuntimeError):
        network.network.forward([*x[:2], torch.rand(2, 7)])
    assert torch.equal(network.network.forward(x), expected)


@pytest.mark.parametrize("kind", ["loop", "still"])
def test_no_layer_holds_a_batch_once_its_pass_is_over(kind, loop):
    network, x = loop if kind == "loop" else (quantized(Still(), torch.rand(2, 3)), torch.rand(2, 3))
    seen = []

    def note(module, args, result):
        seen.extend([weakref.ref(args[0]), weakref.ref(result)])

    for layer in network.layers.values():
        layer.register_forward_hook(note)
    result = network.train()(x)
    result.sum().backward()
    del result
    gc.collect()
    assert len(seen) >= 4
    assert all(layer.calls == Calls() for layer in network.layers.values())
    assert [reference() for reference in seen if reference() is not None and reference() is not x] == []


def test_gradients_are_there_behind_the_pass(loop):
    network, x = loop
    network.train()(x).square().sum().backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in network.layers.values())


def test_the_network_stays_its_users_own(loop):
    network, x = loop
    inner = network.network
    assert isinstance(inner, Loop)
    assert (type(inner).__name__, type(inner).__module__, type(inner).__doc__) == ("Loop", __name__, Loop.__doc__)
    assert inspect.signature(inner.forward) == inspect.signature(Loop().forward)
    expected = network(x)
    assert torch.equal(copy.deepcopy(inner)(x), expected)
    # Its own copy is pickled, and read where nothing has been converted.
    restored = pickle.loads(pickle.dumps(inner))
    assert torch.equal(restored.forward(x), expected)
    assert torch.equal(restored.forward(x), expected)


def test_a_network_of_one_call_a_layer_is_left_alone():
    x = torch.rand(4, 3)
    network = bitsearch.quantize(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), x)
    assert type(network.network) is nn.Sequential


def test_bounding_twice_is_bounding_once():
    network = Still()
    bound_passes(network, reset=True)
    expected = network(torch.ones(2, 3))
    assert torch.equal(network(torch.ones(2, 3)), expected)
