"""One description of a neuron, whatever library it comes from."""

import subprocess
import sys

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from bitsearch.frameworks.neurons import NeuronDescription, is_neuron, is_spiking


def test_a_gain_is_in_thresholds():
    assert NeuronDescription().gain == 1
    assert NeuronDescription(charge=0.5, threshold=torch.tensor(4.0)).gain == 0.125
    learned = nn.Parameter(torch.tensor([[2.0], [4.0]]))
    gain = NeuronDescription(threshold=learned).gain
    assert gain.tolist() == [[0.5], [0.25]]
    assert not gain.requires_grad


def test_only_neurons_are_described():
    assert is_neuron(neuron.LIFNode())
    assert not is_neuron(nn.Identity())
    assert is_spiking(neuron.IzhikevichNode())
    assert not is_neuron(neuron.IzhikevichNode())


@pytest.mark.processes
def test_no_library_is_imported_for_it():
    code = (
        "import sys; from torch import nn; from bitsearch.frameworks.neurons import is_neuron, reset_states\n"
        "network = nn.Sequential(nn.Linear(2, 2)); reset_states(network)\n"
        "assert not is_neuron(network[0]); print('spikingjelly' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
