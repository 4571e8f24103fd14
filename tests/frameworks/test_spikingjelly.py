import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

from bitsearch.frameworks.spikingjelly import is_neuron, reset_states


def test_states_are_reset_in_every_module():
    network = nn.Sequential(nn.Linear(3, 3), neuron.IFNode(), nn.Sequential(neuron.LIFNode(), layer.Dropout(0.5)))
    first = network.eval()(torch.ones(2, 3))
    assert isinstance(network[1].v, torch.Tensor)
    reset_states(network)
    assert network[1].v == 0.0
    assert network[2][0].v == 0.0
    assert torch.equal(network(torch.ones(2, 3)), first)


def test_a_subclass_of_a_neuron_is_not_taken_for_it():
    class Special(neuron.LIFNode):
        pass

    assert is_neuron(neuron.LIFNode())
    assert not is_neuron(Special())
    assert not is_neuron(nn.ReLU())
