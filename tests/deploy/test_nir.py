from graphlib import TopologicalSorter

import nir
import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from bitsearch.deploy.nir import export_nir, share_steps
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.plan import BitPlan, LayerPlan

FRAMES, BATCH = 5, 4


def settle(network, inputs):
    network.train()
    with torch.no_grad():
        for _ in range(2):
            network(inputs)
    return network.eval()


def run_nir(path, inputs):
    """({node: what it yields at every step}) of a NIR file, by the equations of NIR and the nodes' metadata.

    ``inputs`` are ``[T, N, ...]``; a soft reset subtracts the threshold, and a membrane starts where it is reset to.
    """
    graph = nir.read(path)
    before = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        before[target].append(source)
    dt, potentials, found = float(graph.metadata["dt"]), {}, {name: [] for name in graph.nodes}
    for current in inputs:
        now = {}
        for name in TopologicalSorter(before).static_order():
            node = graph.nodes[name]
            given = current if not before[name] else sum(now[source] for source in before[name])
            now[name] = _step(node, given, name, potentials, dt)
            found[name].append(now[name])
    return {name: torch.stack(values) for name, values in found.items()}


def _step(node, x, name, potentials, dt):
    tensors = {key: torch.as_tensor(value) for key, value in vars(node).items() if isinstance(value, np.ndarray)}
    kind = type(node).__name__
    if kind in ("Input", "Output"):
        return x
    if kind == "Flatten":
        return x.flatten(1)
    if kind == "Affine":
        return nn.functional.linear(x, tensors["weight"], tensors["bias"])
    if kind == "Conv2d":
        options = [tuple(int(one) for one in np.atleast_1d(getattr(node, part))) for part in ("stride", "padding")]
        return nn.functional.conv2d(x, tensors["weight"], tensors["bias"], *options, groups=int(node.groups))
    if kind == "AvgPool2d":
        return nn.functional.avg_pool2d(x, tuple(node.kernel_size.tolist()), tuple(node.stride.tolist()))
    if kind == "Threshold":
        return (x > tensors["threshold"]).float()
    v = potentials.get(name, tensors["v_reset"])
    if kind == "LIF":
        v = v + dt / tensors["tau"] * (tensors["v_leak"] - v + tensors["r"] * x)
    else:
        assert kind == "IF"
        v = v + dt * tensors["r"] * x
    spikes = (v > tensors["v_threshold"]).float()
    assert node.metadata["reset"] == "subtract"
    potentials[name] = v - spikes * tensors["v_threshold"]
    return spikes


@pytest.fixture(scope="module")
def events():
    return torch.rand(FRAMES, BATCH, 2, 6, 6, generator=torch.Generator().manual_seed(0)).round()


class Residual(nn.Module):
    """A spiking network with a shortcut, in spikingjelly's own modules."""

    def __init__(self):
        super().__init__()
        self.conv1 = layer.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm1 = layer.BatchNorm2d(4)
        self.neuron1 = neuron.IFNode(v_reset=None)
        self.conv2 = layer.Conv2d(4, 4, 3, padding=1)
        self.pool = layer.AvgPool2d(2)
        self.neuron2 = neuron.IFNode(v_reset=None)
        self.flatten = layer.Flatten()
        self.classifier = layer.Linear(36, 3)

    def forward(self, x):
        current = self.norm1(self.conv1(x))
        x = self.pool(self.conv2(self.neuron1(current)) + current)
        return self.classifier(self.flatten(self.neuron2(x)))


def mlp():
    return nn.Sequential(layer.Flatten(), layer.Linear(72, 8), layer.BatchNorm1d(8), nn.ReLU(), layer.Linear(8, 3))


def quantized(network, inputs, names, **plan):
    functional.set_step_mode(network, "m")
    content = {"weight_bits": 3, "spike_bits": (1,) * FRAMES, "time_steps": FRAMES, "frames": FRAMES} | plan
    torch.manual_seed(0)
    made = convert(network, {name: LayerPlan(**content) for name in names})
    return settle(made, inputs)
