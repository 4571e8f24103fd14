"""How near a network's spikes are to others, so that another order of summation makes them others."""

import torch
from tolerances import rounding
from torch import nn

from bitsearch.layers import quantized_layers
from bitsearch.quant.frames import bin_frames
from bitsearch.quant.recurrence import membrane_steps
from bitsearch.runs.rebuild import rebuild

MARGIN = rounding(64)
"""Of the largest spike: what a sum of a few dozen terms is off by at most, in float32."""


def boundary_distance(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """``[N]``: how far the membranes of each sample are from a rounding boundary, as a share of the largest spike.

    Where it is more than :data:`MARGIN`, whoever adds up the same currents in another order gets the same spikes.
    """
    distances, layers = [], quantized_layers(network)

    def observer(layer):
        def observe(x, *_):
            framed = layer.frames is not None
            steps = membrane_steps(
                bin_frames(x, layer.active_steps) if framed else x,
                layer.spike_step,
                layer.spike_bits,
                time_steps=layer.active_steps,
                decay=layer.decay,
                signed=layer.signed_input,
                framed=framed,
                neuron=layer.neuron,
            )
            whole = layer.neuron is not None and layer.neuron.threshold == "full"
            for (levels, _), bits in zip(steps, layer.spike_bits, strict=False):
                nearest = levels.scaled.round() if whole else levels.scaled.floor() + 0.5
                distance = (levels.scaled - nearest).abs() / levels.largest
                # Nothing rounds beyond the largest level, nor below zero where nothing is negative; one bit has a sign.
                least = -levels.largest if layer.signed_input else 0
                inside = (levels.scaled > least + 0.5 * whole) & (levels.scaled < levels.largest + 0.5 * whole)
                distance = distance.where(inside, distance.new_tensor(1.0))
                if layer.signed_input and bits == 1:
                    distance = levels.scaled.abs()
                distances.append(distance.flatten(1).amin(1))

        return observe

    for layer in layers.values():
        layer.observer = observer(layer)
    with torch.no_grad():
        network(inputs)
    for layer in layers.values():
        layer.observer = None
    return torch.stack(distances).amin(0)


def undecided(plan_file, split="validation"):
    """How many samples of a plan's split may get another prediction where the same sums are added up otherwise."""
    network, task = rebuild(plan_file)
    network.eval()
    inputs, _ = task.splits.split(split)[:]
    with torch.no_grad():
        first, second = network(inputs).topk(2).values.T
    equal = first - second <= MARGIN * first.abs()
    return int((equal | (boundary_distance(network, inputs) <= MARGIN)).sum())
