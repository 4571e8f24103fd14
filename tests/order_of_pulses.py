"""Recordings that only the order of their frames tells apart, and three forms of one small spiking network."""

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.utils.data import TensorDataset

from bitsearch.data import Splits

FRAMES = 8


def recordings(samples, seed=0):
    """(inputs ``[N, F, 2]``, labels): a pulse on either channel; the label is the channel of the first."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (samples,), generator=generator)
    start = torch.randint(0, FRAMES - 3, (samples,), generator=generator)
    distance = torch.randint(1, 4, (samples,), generator=generator)
    height = 3.0 + 0.3 * torch.rand(2, samples, generator=generator)
    inputs, each = torch.zeros(samples, FRAMES, 2), torch.arange(samples)
    inputs[each, start, labels] = height[0]
    inputs[each, start + distance, 1 - labels] = height[1]
    return inputs, labels


def splits(samples=900):
    """A sixth of the samples for validation, and as many for the test."""
    inputs, labels = recordings(samples)
    parts = [TensorDataset(x, y) for x, y in zip(inputs.split(samples // 6), labels.split(samples // 6), strict=True)]
    train = TensorDataset(*(torch.cat([part.tensors[i] for part in parts[:4]]) for i in (0, 1)))
    return Splits(train, parts[4], parts[5], input_shape=(FRAMES, 2), classes=2, frames=FRAMES)


def leaky():
    """A neuron whose memory lasts for a few frames."""
    return neuron.LIFNode(tau=4.0, decay_input=False, surrogate_function=surrogate.ATan(), detach_reset=True)


class StepByStep(nn.Module):
    """Single-step layers in a loop over the frames."""

    def __init__(self, hidden=32):
        super().__init__()
        self.layers = nn.Sequential(
            layer.Linear(2, hidden), leaky(), layer.Linear(hidden, hidden), leaky(), layer.Linear(hidden, 2)
        )

    def forward(self, x):
        return torch.stack([self.layers(frame) for frame in x])


class MultiStep(StepByStep):
    """The same network, each layer of which gets all frames."""

    def __init__(self, hidden=32):
        super().__init__(hidden)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.layers(x)


class Recurrent(nn.Module):
    """One hidden layer whose spikes come back to it a frame later."""

    def __init__(self, hidden=32):
        super().__init__()
        self.inputs, self.feedback = nn.Linear(2, hidden), nn.Linear(hidden, hidden, bias=False)
        self.neuron, self.readout = leaky(), nn.Linear(hidden, 2)

    def forward(self, x):
        spikes, total = x.new_zeros(x.shape[1], self.feedback.in_features), 0.0
        for frame in x:
            spikes = self.neuron(self.inputs(frame) + self.feedback(spikes))
            total = total + self.readout(spikes)
        return total / len(x)
