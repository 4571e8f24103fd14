"""A neuron that is reset a step late has no integer form; which one it is, is told."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from bitsearch.deploy.lower.lowering import lower
from bitsearch.errors import InputError
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan, NeuronSettings


def test_it_is_refused_by_name():
    network = nn.Sequential(layer.Linear(4, 8), neuron.LIFNode(v_reset=None), layer.Linear(8, 2))
    functional.set_step_mode(network, "m")
    bits = {"weight_bits": 8, "spike_bits": (1, 1), "time_steps": 2, "frames": 2}
    late = NeuronSettings(reset="delayed", threshold="full", largest=1.0)
    plan = {
        "0": LayerPlan(**bits, signed_input=True, neurons=()),
        "2": LayerPlan(**bits, neurons=("1",), neuron=late, decay=0.5),
    }
    quantized, x = convert(network, plan).eval(), torch.rand(2, 5, 4)
    quantized(x)
    with pytest.raises(InputError, match="layer '2' cannot be deployed: its neuron is reset a step late"):
        lower(quantized, x)
