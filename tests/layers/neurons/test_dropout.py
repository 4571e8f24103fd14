"""A dropout behind a neuron acts on its spikes after conversion too, as in the user's network."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from test_own_neuron import converted, events, on_a_grid
from test_placed_own_neuron import Loop
from torch import nn
from torch.nn import functional as F

T = 4


class OfFunction(nn.Module):
    """A dropout without a module."""

    def __init__(self, dropout):
        super().__init__()
        self.dropout = dropout

    def forward(self, x):
        return self.dropout(x, 0.5, self.training)


DROPOUTS = {
    "torch's": lambda: nn.Dropout(0.5),
    "SpikingJelly's": lambda: layer.Dropout(0.5),
    "SpikingJelly's, of channels": lambda: layer.Dropout2d(0.5),
    "a function": lambda: OfFunction(F.dropout),
    "torch's own function": lambda: OfFunction(torch.dropout),
}


def network(dropout, *, flattened=False):
    """Two layers of neurons for frames ``[2, 6, 6]``, a dropout behind each; weights on a grid of 8 bits."""
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1),
        neuron.IFNode(v_reset=None),
        dropout(),
        layer.Conv2d(4, 4, 3, padding=1),
        neuron.IFNode(v_reset=None),
        *((layer.Flatten(), dropout()) if flattened else (dropout(), layer.Flatten())),
        layer.Linear(4 * 36, 10),
    )
    functional.set_step_mode(net, "m")
    with torch.no_grad():
        for module in (net[0], net[3], net[7]):
            module.weight.copy_(on_a_grid(module.weight, 127 / 128))
            module.bias.copy_((module.bias * 256).round() / 256)
    return net


def drawn(net, x, seed):
    functional.reset_net(net)
    torch.manual_seed(seed)
    with torch.no_grad():
        result = net(x)
    functional.reset_net(net)
    return result


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("kind", DROPOUTS)
def test_what_is_dropped_in_training_are_spikes(kind, loop):
    net, x = network(DROPOUTS[kind]), events(T)
    net = Loop(net) if loop else net
    quantized = converted(net.eval(), x)
    assert [plan.in_place for plan in quantized.layer_plans.values()] == [None, True, True]
    assert torch.equal(drawn(quantized.network, x, 0), drawn(net, x, 0))
    net.train()
    quantized.network.train()
    expected = [drawn(net, x, seed) for seed in (0, 1)]
    assert not torch.equal(*expected)
    # Twice a spike times a level: exact in float32, in any order.
    assert torch.equal(drawn(quantized.network, x, 0), expected[0])
    assert torch.equal(drawn(quantized.network, x, 1), expected[1])


def test_a_dropout_behind_a_flatten_is_seen_too():
    net, x = network(DROPOUTS["SpikingJelly's"], flattened=True), events(T)
    quantized = converted(net.eval(), x)
    quantized.network.train()
    assert torch.equal(drawn(quantized.network, x, 0), drawn(net.train(), x, 0))


def test_a_dropout_that_drops_nothing_is_none():
    quantized = converted(network(lambda: nn.Dropout(0.0)).eval(), events(T))
    assert [plan.in_place for plan in quantized.layer_plans.values()] == [None, None, None]
