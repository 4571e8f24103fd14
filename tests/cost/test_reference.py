import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from bitsearch.cost.model import CostModel
from bitsearch.cost.reference import reference
from bitsearch.cost.tracing import trace


def reference_of(network, inputs):
    return reference(CostModel(trace(network, inputs)))


def test_without_spiking_neurons_weights_and_inputs_have_32_bits():
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    given = reference_of(network, torch.rand(2, 4))
    assert str(given) == "w32 s32 T1"
    assert given.costs["bit_budget"] == 32 * 32
    assert given.costs["s_ace"] == (4 * 3 + 3 * 2) * 32 * 32
    # Weights at four bytes, a step size a layer, a multiplier and a bias an output.
    assert given.costs["weight_memory"] == (12 + 6) * 4 + 2 * 4 + (3 + 2) * 8


def test_a_spiking_network_sends_its_own_spikes_in_its_own_time_steps():
    network = nn.Sequential(layer.Linear(4, 3), neuron.LIFNode(), layer.Linear(3, 2))
    functional.set_step_mode(network, "m")
    given = reference_of(network, torch.rand(8, 2, 4))
    assert str(given) == "w32 s1 T8"
    # The first layer reads the data themselves, at 32 bits.
    assert given.costs["s_ace"] == 8 * (4 * 3 * 32 * 32 + 3 * 2 * 32 * 1)
    # Four inputs of 32 bits and three spikes.
    assert given.costs["bit_budget"] == pytest.approx(32 * (4 * 32 + 3 * 1) / 7 * 8)


def test_costs_that_need_firing_rates_are_left_out():
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    assert "ns_ace" not in reference_of(network, torch.rand(2, 4)).costs


class TwoNeurons(nn.Module):
    """Its second layer reads neurons with two decays, so that both stay in the network."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layer.Linear(4, 3), layer.Linear(3, 2)
        self.slow, self.fast = neuron.LIFNode(tau=10.0), neuron.LIFNode(tau=2.0)
        functional.set_step_mode(self, "m")

    def forward(self, inputs):
        currents = self.first(inputs)
        return self.second(self.slow(currents) + self.fast(currents))


def test_neurons_that_stay_send_their_spikes_as_well():
    model = CostModel(trace(TwoNeurons(), torch.rand(8, 2, 4)))
    assert set(model.staying) == {"slow", "fast"}
    assert str(reference(model)) == "w32 s1 T8"
