"""Values below zero that an unsigned layer gets are counted and said once."""

import copy
import warnings

import pytest
import torch
from torch import nn

import bitsearch
from bitsearch.layers.clipped_input import ClippedInput, count_clipped, warn_of_clipped


class Net(nn.Module):
    """``skip`` reads the network's input beside what a ReLU made of it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.skip, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.skip(x + self.first(x).relu()).relu())


def quantized(**options):
    return bitsearch.quantize(Net(), torch.rand(8, 4), **options)


def signs(network):
    return {name: plan.signed_input for name, plan in network.layer_plans.items()}


@pytest.mark.parametrize(
    ("example", "declared", "signed"),
    [
        (torch.rand(8, 4), None, False),
        (torch.rand(8, 4), True, True),
        (torch.rand(8, 4), False, False),
        (-torch.rand(8, 4), None, True),
        (-torch.rand(8, 4), False, False),
    ],
)
def test_a_declaration_wins_over_the_example(example, declared, signed):
    network = bitsearch.quantize(Net(), example, signed_input=declared)
    assert signs(network) == {"first": signed, "skip": signed, "last": False}
    assert [layer.follows_input for layer in network.model.layers] == [True, True, False]


def test_what_a_layer_clips_is_said_once_with_its_share():
    network = quantized()
    x = torch.rand(8, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(x)
        network.eval()
        network.train()
    x[0, :2] = -50.0
    network(x)
    # Two of 64 values that came to each in two batches of 32.
    line = (
        r"layer '{}' takes its input for never below zero, and 3.12 % of it is, which counts as zero; set signed_input"
    )
    with pytest.warns(UserWarning, match="takes its input for never below zero") as caught:
        network.eval()
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    for name, message in zip(("first", "skip"), messages, strict=True):
        assert message.startswith(line.format(name))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(x)
        network.train()


def test_signed_layers_and_those_behind_a_relu_count_nothing():
    network = quantized(signed_input=True)
    hooks = [hook for layer in network.layers.values() for hook in layer._forward_pre_hooks.values()]
    assert hooks == []
    (hook,) = quantized().layers["first"]._forward_pre_hooks.values()
    assert isinstance(hook, ClippedInput)


def test_a_copy_counts_for_itself_and_once():
    network = quantized()
    twin = network.copy()
    count_clipped(twin.network, ["first"])
    (hook,) = twin.layers["first"]._forward_pre_hooks.values()
    assert hook is not next(iter(network.layers["first"]._forward_pre_hooks.values()))
    twin(-torch.ones(2, 4))
    assert (hook.share, hook.values) == (1.0, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_clipped(network.network)
    with pytest.warns(UserWarning, match="for never below zero, and 100 % of it is") as caught:
        copy.deepcopy(twin).eval()
    assert len(caught) == 2


def test_logits_are_those_without_a_counter():
    network = quantized().eval()
    plain = bitsearch.layers.convert(Net(), network.layer_plans).eval()
    x = torch.rand(8, 4)
    assert torch.equal(network(x), plain(x))
