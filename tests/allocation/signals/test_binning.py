"""The measured loss of binning, against networks that are converted with the bins from the start."""

import pytest
import torch
from order_of_pulses import FRAMES, MultiStep, StepByStep, recordings
from spikingjelly.activation_based import functional
from tolerances import FLOAT64
from torch import nn

import bitsearch
from bitsearch.allocation.signals.binning import BinningLoss, bins_frames
from bitsearch.allocation.signals.fisher_loss import FisherLossModel
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.layers import convert
from bitsearch.layers.convert import quantized_layers
from bitsearch.plan import UniformBits

FINEST = UniformBits(weight_bits=8, spike_bits=8, time_steps=FRAMES)
FIRST = FirstLayer(weight_bits=8, spike_bits=8, time_steps=FRAMES)


@pytest.fixture
def inputs():
    return recordings(40)[0].transpose(0, 1).double()


def network(form=MultiStep, hidden=12):
    """Of random weights that let neurons fire."""
    torch.manual_seed(0)
    net = form(hidden).double()
    for part in net.layers:
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0.2, 0.7)
    return net


def learnable(net, inputs, **options):
    choices = Choices(time_steps=Span(low=1, high=FRAMES))
    return bitsearch.quantize(net, inputs, start=FINEST, choices=choices, first_layer=FIRST, time_axis=True, **options)


def log_probabilities(net, plan, inputs, steps):
    """Of the network converted with a plan: step sizes are set by the inputs but for layers in ``steps``."""
    converted = convert(net, plan).eval()
    for name, layer in quantized_layers(converted).items():
        if name in steps:
            layer.load_state_dict(steps[name])
    functional.reset_net(converted)
    with torch.no_grad():
        logits = converted(inputs).mean(0)
    return logits.log_softmax(-1), {name: layer.state_dict() for name, layer in quantized_layers(converted).items()}


def test_the_loss_is_the_divergence_from_the_network_without_bins(inputs):
    net = network()
    quantized = learnable(net, inputs)
    loss, finest = BinningLoss(quantized, inputs), quantized.layer_plans
    expected = {}
    before, steps = log_probabilities(net, finest, inputs, {})
    for name in quantized.searched_layers:
        others = {other: state for other, state in steps.items() if other != name}
        for time_steps in range(1, FRAMES + 1):
            plan = finest | {name: finest[name].with_bits(8, (8,) * time_steps)}
            after, _ = log_probabilities(net, plan, inputs, others)
            expected[name, time_steps] = float((before.exp() * (before - after)).sum(-1).mean())
    # In any order, and again.
    for name, time_steps in [*expected, *reversed(expected)]:
        assert loss(name, time_steps) == pytest.approx(expected[name, time_steps], rel=FLOAT64, abs=FLOAT64)
    assert max(expected.values()) > 1e-4
    assert quantized.layer_plans == finest


def test_the_first_layer_and_full_length_cost_nothing(inputs):
    quantized = learnable(network(), inputs)
    loss = BinningLoss(quantized, inputs)
    assert [loss(name, FRAMES) for name in quantized.searched_layers] == [0.0, 0.0]
    assert not loss.losses


def test_a_loop_has_no_frames_to_bin(inputs):
    quantized = learnable(network(StepByStep), inputs)
    loss = BinningLoss(quantized, inputs)
    assert not any(bins_frames(layer) for layer in quantized.searched_layers.values())
    assert [loss(name, 1) for name in quantized.searched_layers] == [0.0, 0.0]


def test_a_static_input_has_no_frames_to_bin():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    inputs = torch.rand(8, 4, generator=torch.Generator().manual_seed(0))
    quantized = bitsearch.quantize(net, inputs)
    assert not any(bins_frames(layer) for layer in quantized.searched_layers.values())


def test_a_share_of_it_is_added_to_the_neurons_loss(inputs):
    net = network()
    binning = BinningLoss(learnable(net, inputs), inputs)
    model = FisherLossModel(learnable(net, inputs), 0, batch_axis=1, time_tolerance=0.25, binning=binning)
    model.probe(inputs)
    for name in model.states:
        for bits in ((3,), (2, 4), (4,) * FRAMES):
            assert model.spike_loss(name, bits) == model.neuron_loss(name, bits) + 0.25 * binning(name, len(bits))
