"""Small trained networks that Akida's first generation has layers for."""

import torch
from calibration import calibrate
from spikingjelly.activation_based import neuron
from torch import nn

from bitsearch import pack, read
from bitsearch.frameworks.layers import QUANTIZABLE
from bitsearch.layers import convert
from bitsearch.plan import LayerPlan

SAMPLES = 24


def strided():
    """Strides behind padding, which Akida has behind the last row: images have to be turned."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        neuron.IFNode(),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.ReLU(),
        nn.Conv2d(6, 3, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def pooled():
    """Largest currents, and largest spikes, then a matrix; three channels of colour."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, padding=1),
        neuron.IFNode(),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 4, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, 3),
    )


def matrices():
    """On inputs above zero."""
    return nn.Sequential(
        nn.Linear(12, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Linear(16, 12),
        nn.BatchNorm1d(12),
        neuron.IFNode(),
        nn.Linear(12, 3),
    )


SHAPES = {strided: (1, 8, 8), pooled: (3, 14, 18), matrices: (12,)}


def inputs_for(make, seed=0, samples=SAMPLES):
    x = torch.randn(samples, *SHAPES[make], generator=torch.Generator().manual_seed(seed))
    return x.abs() if make is matrices else x


def packed_network(network, x, folder, spike_bits=4, weight_bits=4, **bits):
    """The network as it is packed, and as it is trained; ``bits`` of single layers are (weight bits, spike bits)."""
    names = [name for name, module in network.named_modules() if type(module) in QUANTIZABLE]
    plan = {}
    for index, name in enumerate(names):
        image = index == 0 and x.dim() == 4
        weight, spike = bits.get(f"layer{name}", (8, 8) if image else (weight_bits, spike_bits))
        steps = spike if isinstance(spike, tuple) else (spike,)
        plan[name] = LayerPlan(signed_input=image, weight_bits=weight, spike_bits=steps, time_steps=len(steps))
    quantized = calibrate(convert(network, plan), x)
    pack(quantized, x, folder / "packed")
    return read(folder / "packed"), quantized


def trained(make, seed=0):
    """With batch norms as training may leave them: some channels fall, one is all bias."""
    torch.manual_seed(seed)
    network = make()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            with torch.no_grad():
                module.weight.normal_().masked_fill_(torch.arange(len(module.weight)) == 1, 0)
                module.bias.normal_()
    return network
