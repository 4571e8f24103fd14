"""What a method trains: neurons of several bits send several levels, those of one bit are the network's own."""

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn
from torch.utils.data import TensorDataset

from bitsearch.allocation.methods.base import AllocationProblem, make_learnable_copy
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.cost import AllowedBits, CostModel, trace
from bitsearch.data import Splits
from bitsearch.plan import NeuronSettings, UniformBits
from bitsearch.space import SearchSpace
from bitsearch.train.session import TrainingSession
from bitsearch.training import Training

T = 2
SINGLE = NeuronSettings(reset="zero", threshold="full", largest=1)
SEVERAL = NeuronSettings(reset="zero", threshold="full")


@pytest.fixture
def problem():
    """Of a network with two layers behind neurons, on frames."""
    torch.manual_seed(0)
    network = nn.Sequential(
        layer.Linear(4, 6), neuron.IFNode(), layer.Linear(6, 5), neuron.IFNode(), layer.Linear(5, 2)
    )
    functional.set_step_mode(network, "m")
    data = TensorDataset(torch.rand(8, T, 4), torch.arange(8) % 2)
    splits = Splits(data, data, data, input_shape=(T, 4), classes=2, frames=T)
    space = SearchSpace(
        name="frames",
        network="mine",
        data="mine",
        choices=Choices(time_steps=Span(low=1, high=T)),
        first_layer=FirstLayer(weight_bits=8, spike_bits=8, time_steps=T),
        training=Training(batch_size=4, epochs=1),
    )
    model = CostModel(trace(network, torch.rand(T, 3, 4), time_axis=True))
    rules = AllowedBits.make(model, space.choices, space.first_layer)
    session = TrainingSession(splits, space.training)
    return AllocationProblem(network, model, rules, session, space, space.allocation, (), seed=0)


def neurons(network):
    return [plan.neuron for plan in network.layer_plans.values()]


def test_bits_decide_what_a_uniform_plan_trains(problem):
    for bits, expected in ((1, SINGLE), (2, SEVERAL)):
        plan = problem.plan(UniformBits(weight_bits=4, spike_bits=bits, time_steps=T))
        assert neurons(problem.quantized(plan)) == [None, expected, expected]


def test_learned_bits_may_become_several(problem):
    start = UniformBits(weight_bits=4, spike_bits=1, time_steps=T)
    settings = problem.settings.model_copy(update={"start": start})
    quantized = make_learnable_copy(problem.network, problem.model, problem.rules, problem.space, settings)
    assert neurons(quantized) == [None, SEVERAL, SEVERAL]


def test_a_layer_that_has_one_bit_again_starts_from_the_networks_own_neuron(problem):
    quantized = make_learnable_copy(problem.network, problem.model, problem.rules, problem.space, problem.settings)
    first, second, third = quantized.layer_plans.items()
    plan = dict([first, (second[0], second[1].with_bits(4, (1,) * T)), third])
    assert neurons(problem.quantized(plan)) == [None, SINGLE, SEVERAL]
