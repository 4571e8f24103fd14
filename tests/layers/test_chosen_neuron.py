"""A reset and a start that a search space chooses for all neurons: in plans, costs, training and integers alike."""

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import nn
from torch.utils.data import Subset

from bitsearch import pack, quantize, read
from bitsearch.choices import NeuronChoice
from bitsearch.cost import CostModel, trace
from bitsearch.deploy.verify import verify
from bitsearch.layers import convert, quantized_layers
from bitsearch.plan import NeuronSettings, UniformBits
from bitsearch.quant.recurrence import mean_spikes
from bitsearch.train.task import load_task

CHOSEN = NeuronSettings(reset="zero", threshold="full")


@pytest.fixture(scope="module")
def task(tiny_space):
    return load_task(tiny_space.override(["neuron.reset=zero", "neuron.start=zero"]), device="cpu")


def test_plans_say_it_and_cost_the_same(task, tiny_space):
    ordinary = load_task(tiny_space, device="cpu")
    plan = task.rules.nearest(task.model, task.space.baseline, granularity="layer")
    first, *others = plan.values()
    # The images are scaled to a mean of zero: a neuron of two signs has no reset to choose.
    assert (first.signed_input, first.neuron) == (True, None)
    assert {layer.neuron for layer in others} == {CHOSEN}
    before = ordinary.rules.nearest(ordinary.model, task.space.baseline, granularity="layer")
    assert {layer.neuron for layer in before.values()} == {None}
    assert task.model.costs(plan) == ordinary.model.costs(before)


def test_a_network_is_trained_and_packed_with_it(task, tmp_path):
    layers = task.rules.nearest(task.model, UniformBits(weight_bits=4, spike_bits=2, time_steps=3), granularity="layer")
    network = convert(task.untrained, layers)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    images, labels = task.splits.train[:64]
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    network.eval()
    pack(network, task.examples, tmp_path / "packed")
    packed = read(tmp_path / "packed")
    resets = {name: (layer.reset, layer.threshold) for name, layer in packed.program.layers.items()}
    assert resets == dict.fromkeys(layers, ("zero", "full")) | {"conv1": ("subtract", "half")}
    assert verify(packed, network, task.examples, Subset(task.splits.test, range(64)), 32).equal


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("start", ["half", "zero"])
def test_steps_fit_the_inputs_of_a_layer_that_replaces_no_neuron(start, bits):
    # By the definition of the best step, on a fine grid: whatever the neuron sends in its first time step.
    torch.manual_seed(0)
    inputs = torch.rand(200, 6)
    network = nn.Sequential(nn.Linear(6, 4))
    model = CostModel(trace(network, inputs))
    model.choose_neurons(NeuronChoice(reset="zero", start=start))
    plan = model.uniform(UniformBits(weight_bits=8, spike_bits=bits, time_steps=1), None)
    network = convert(network, plan).train()
    network(inputs)
    (layer,) = quantized_layers(network).values()

    def error(step):
        sent = mean_spikes(
            inputs, step.view(1), layer.spike_bits, time_steps=1, decay=1.0, signed=False, neuron=layer.neuron
        )
        return float((sent - inputs).square().mean())

    best = min(error(step) for step in torch.linspace(0.02, 2.0, 400))
    assert error(layer.spike_step.detach()[0]) < 1.1 * best


def test_a_networks_own_neurons_keep_their_threshold():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), neuron.IFNode(v_reset=None), nn.Linear(8, 3))
    functional.set_step_mode(network, "m")
    frames = torch.rand(4, 20, 6)
    model = CostModel(trace(network, frames, time_axis=True))
    model.choose_neurons(NeuronChoice(reset="zero"))
    plan = model.uniform(UniformBits(weight_bits=8, spike_bits=1, time_steps=4), None)
    assert plan["2"].neuron == NeuronSettings(reset="zero", threshold="full", largest=1.0)
    network = convert(network, plan).train()
    network(frames)
    torch.testing.assert_close(quantized_layers(network)["2"].spike_step.detach(), torch.ones(4), rtol=0, atol=1e-6)
    assert quantized_layers(network)["0"].spike_step.max() != 1


def test_quantize_takes_layer_rules_as_texts():
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    quantized = quantize(network, torch.rand(4, 6), layers=["0:spike_bits={low=1,high=8}", "0:weight_bits=[2, 4]"])
    assert quantized.rules.choices["0"].spike_bits.values == tuple(range(1, 9))
    assert quantized.layer_plans["0"].weight_bits == 4


def test_quantize_takes_the_choice_as_an_object_or_by_its_fields():
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    for choice in (NeuronChoice(reset="zero", start="zero"), {"reset": "zero", "start": "zero"}):
        quantized = quantize(network, torch.rand(4, 6), neuron=choice)
        assert quantized.layer_plans["2"].neuron == CHOSEN
