"""Small networks of one-bit spikes, and what they send, for every reader of NIR."""

import torch
from calibration import calibrate
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from bitsearch.layers import convert
from bitsearch.plan import LayerPlan

FRAMES, BATCH = 5, 4


class Branches(nn.Module):
    """Two convolutions whose currents are summed, with a batch norm and a pooling: spikingjelly's own modules."""

    def __init__(self):
        super().__init__()
        self.conv1 = layer.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm1 = layer.BatchNorm2d(4)
        self.conv2 = layer.Conv2d(2, 4, 1)
        self.neuron = neuron.IFNode(v_reset=None)
        self.conv3 = layer.Conv2d(4, 3, 2, stride=2)
        self.pool = layer.AdaptiveAvgPool2d(1)
        self.flatten = layer.Flatten()

    def forward(self, x):
        return self.flatten(self.pool(self.conv3(self.neuron(self.norm1(self.conv1(x)) + self.conv2(x)))))


def mlp(node=None):
    node = node or neuron.IFNode(v_reset=None)
    return nn.Sequential(layer.Flatten(), layer.Linear(72, 8), layer.BatchNorm1d(8), node, layer.Linear(8, 3))


def scaled_mlp():
    return mlp(neuron.LIFNode(tau=2.0, v_threshold=0.5))


NETWORKS = {mlp: ("1", "4"), scaled_mlp: ("1", "4"), Branches: ("conv1", "conv2", "conv3")}
"""By what makes them, the layers that are quantized."""


def quantized(network, inputs, names, **plan):
    functional.set_step_mode(network, "s" if plan.get("frames", FRAMES) is None else "m")
    content = {"weight_bits": 3, "spike_bits": (1,) * FRAMES, "time_steps": FRAMES, "frames": FRAMES} | plan
    torch.manual_seed(0)
    converted = convert(network, {name: LayerPlan(**content) for name in names})
    return calibrate(converted, inputs)


def pooled(inputs, **plan):
    """A network whose neurons fire in front of a pooling, and scale their input to fire at a half."""
    node = neuron.IFNode(v_threshold=0.5)
    modules = (layer.Conv2d(2, 4, 3, padding=1), node, layer.AvgPool2d(2), layer.Conv2d(4, 3, 3), layer.Flatten())
    network = nn.Sequential(*modules)
    functional.set_step_mode(network, "m")
    bits = {"weight_bits": 3, "spike_bits": (1,) * FRAMES, "time_steps": FRAMES, "frames": FRAMES} | plan
    layers = {
        "0": LayerPlan(**bits, neurons=()),
        "3": LayerPlan(**bits, neurons=("1",), pooled=True, in_place=True),
    }
    torch.manual_seed(0)
    return calibrate(convert(network, layers), inputs)


def spikes_of(network, inputs, names):
    """({layer: its spikes, as 0 and 1}, output) of the quantized network."""
    spikes_by_layer = {}
    layers = dict(network.named_modules())
    for name in names:
        step = layers[name].spike_step[0]
        layers[name].observer = lambda x, spikes, weight, name=name, step=step: spikes_by_layer.update(
            {name: spikes / step}
        )
    with torch.no_grad():
        return spikes_by_layer, network(inputs)
