"""Costs of a network before any bits were chosen: what a plan is compared with, beside the declared baseline."""

import math

import numpy as np

from bitsearch.cost.geometry import LayerGeometry
from bitsearch.cost.model import CostModel
from bitsearch.cost.spike_products import FLOAT_BITS
from bitsearch.plan import Reference


def reference(model: CostModel) -> Reference:
    """The network itself: 32-bit weights, the spikes that its own neurons send, and a time step a frame.

    Where a layer reads no neuron, such as a ReLU or the data, its input has 32 bits. Costs that need firing rates are
    left out, since the spikes of full precision are not counted.

    >>> import torch
    >>> from bitsearch.cost.tracing import trace
    >>> network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> model = CostModel(trace(network, torch.rand(2, 4)))
    >>> str(reference(model)), reference(model).costs["bit_budget"]
    ('w32 s32 T1', 1024.0)
    """
    spikes = [_sent_bits(layer) for layer in model.layers]
    steps = [float(layer.frames or 1) for layer in model.layers]
    weights = np.full(len(model.layers), float(FLOAT_BITS))
    bits = model.vectors(weights, np.asarray(spikes, dtype=np.float64), np.asarray(steps, dtype=np.float64))
    geometry = model.geometry()
    sent = [_sent_bits(layer) for layer in model.layers if layer.largest_spike is not None]
    return Reference(
        spike_bits=max(sent, default=FLOAT_BITS),
        time_steps=int(max(steps)),
        costs={
            name: float(metric.cost(geometry, bits))
            for name, metric in model.metrics.items()
            if not model.needs_activity(name)
        },
    )


def _sent_bits(layer: LayerGeometry) -> int:
    """Bits of a spike of the neurons that a layer reads; of a number, if it reads none or they send any."""
    return FLOAT_BITS if layer.largest_spike is None else math.ceil(math.log2(layer.largest_spike + 1))
