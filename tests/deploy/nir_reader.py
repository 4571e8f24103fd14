"""A reader of NIR files written from NIR's equations alone: no code of the library."""

from graphlib import TopologicalSorter

import nir
import numpy as np
import torch
from torch import nn


def run_nir(path, inputs):
    """({node: what it yields at every step}) of a NIR file, by the equations of NIR and the nodes' metadata.

    ``inputs`` are ``[T, N, ...]``; a soft reset subtracts the threshold, and a membrane starts where it is reset to.
    """
    graph = nir.read(path)
    sources = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        sources[target].append(source)
    dt, potentials, outputs = float(graph.metadata["dt"]), {}, {name: [] for name in graph.nodes}
    for current in inputs:
        step_outputs = {}
        for name in TopologicalSorter(sources).static_order():
            node = graph.nodes[name]
            x = current if not sources[name] else sum(step_outputs[source] for source in sources[name])
            step_outputs[name] = _step(node, x, name, potentials, dt)
            outputs[name].append(step_outputs[name])
    return {name: torch.stack(values) for name, values in outputs.items()}


def _step(node, x, name, potentials, dt):
    tensors = {key: torch.as_tensor(value) for key, value in vars(node).items() if isinstance(value, np.ndarray)}
    kind = type(node).__name__
    if kind in ("Input", "Output"):
        return x
    if kind == "Scale":
        return x * tensors["scale"]
    if kind == "Flatten":
        return x.flatten(1)
    if kind == "Affine":
        return nn.functional.linear(x, tensors["weight"], tensors["bias"])
    if kind == "Conv2d":
        options = {
            part: tuple(int(size) for size in np.atleast_1d(getattr(node, part)))
            for part in ("stride", "padding", "dilation")
        }
        return nn.functional.conv2d(x, tensors["weight"], tensors["bias"], groups=int(node.groups), **options)
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
    potentials[name] = v - spikes * tensors["v_threshold"]
    if node.metadata["reset"] == "zero":
        potentials[name] = torch.where(spikes == 1, tensors["v_reset"], v)
    return spikes
