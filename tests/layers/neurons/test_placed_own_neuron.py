"""A network's own neurons in front of pooling: at the network's own setting, every spike is SpikingJelly's."""

from contextlib import nullcontext

import pytest
import torch
from learning import guessed
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from test_own_neuron import NODES, converted, events, on_a_grid, spikes_of
from tolerances import FLOAT64
from torch import nn

import bitsearch
from bitsearch.choices import Choices, FirstLayer, Span
from bitsearch.data import load_data
from bitsearch.layers import quantized_layers
from bitsearch.layers.neurons.placed_neuron import PlacedNeuron
from bitsearch.plan import UniformBits
from bitsearch.quant.membrane_gradient import gradients_through_time

POOLS = {"max": lambda: layer.MaxPool2d(2), "average": lambda: layer.AvgPool2d(2)}


def network(node, pool, scale=1.0):
    """Two layers of neurons for frames ``[2, 6, 6]``, with a pooling behind each, and weights on a grid of 8 bits."""
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(2, 8, 3, padding=1),
        node(),
        pool(),
        layer.Conv2d(8, 8, 2, padding=1),
        node(),
        pool(),
        layer.Flatten(),
        layer.Linear(8 * 4, 10),
    )
    functional.set_step_mode(net, "m")
    with torch.no_grad():
        for module in (net[0], net[3], net[7]):
            module.weight.copy_(on_a_grid(module.weight, scale * 127 / 128))
            module.bias.copy_((module.bias * 256).round() / 256)
    return net.eval()


def spikes_in_place(quantized, x):
    """Of every neuron of the converted network, and the logits."""
    trains = []
    hooks = [
        module.register_forward_hook(lambda _, inputs, spikes: trains.append(spikes))
        for module in quantized.modules()
        if isinstance(module, PlacedNeuron)
    ]
    with torch.no_grad():
        logits = quantized(x)
    for hook in hooks:
        hook.remove()
    return trains, logits


@pytest.mark.parametrize("frames", [1, 4, 8])
@pytest.mark.parametrize("v_reset", [None, 0.0])
@pytest.mark.parametrize("kind", NODES)
@pytest.mark.parametrize("pool", POOLS)
def test_every_spike_is_the_librarys(pool, kind, v_reset, frames):
    # A leak, or an input that decays, takes stronger currents.
    net, x = network(lambda: NODES[kind](v_reset=v_reset), POOLS[pool], 1.0 if kind == "IF" else 4.0), events(frames)
    trains, logits = spikes_of(net, x)
    quantized = converted(net, x)
    assert [plan.in_place for plan in quantized.layer_plans.values()] == [None, True, True]
    ours, our_logits = spikes_in_place(quantized, x)
    assert len(ours) == len(trains) == 2
    for theirs, mine in zip(trains, ours, strict=True):
        assert 0.01 < theirs.mean() < 0.99
        assert torch.equal(theirs, mine)
    # Sums of quarters of whole levels, exact in any order.
    assert torch.equal(our_logits, logits)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("v_reset", [None, 0.0])
def test_more_bits_than_the_network_has_change_nothing(v_reset, pool):
    net, x = network(lambda: neuron.IFNode(v_reset=v_reset), POOLS[pool]), events(4)
    _, logits = spikes_of(net, x)
    for spike_bits in (1, 2, 8):
        assert torch.equal(spikes_in_place(converted(net, x, spike_bits), x)[1], logits)


class Loop(nn.Module):
    """A network of single-step modules, called once a frame."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        functional.set_step_mode(self, "s")

    def forward(self, x):
        return torch.stack([self.net(frame) for frame in x])


def test_a_loop_over_frames_has_the_same_spikes():
    net, x = network(neuron.LIFNode, POOLS["average"]), events(4)
    _, logits = spikes_of(net, x)
    looped = converted(Loop(net), x)
    assert [module.loop for module in quantized_layers(looped).values()] == ["frames"] * 3
    assert torch.equal(looped(x), logits)
    assert torch.equal(looped(x), logits)


@pytest.mark.parametrize("gradients", [nullcontext, gradients_through_time])
def test_a_loop_over_frames_has_the_same_gradients(gradients):
    x, slopes = events(4), []
    for make in (nn.Sequential, Loop):
        quantized = converted(make(network(neuron.LIFNode, POOLS["average"])), x).double()
        with gradients():
            quantized(x.double()).square().sum().backward()
        slopes.append([parameter.grad for name, parameter in quantized.named_parameters() if "time" not in name])
    for whole, loop in zip(*slopes, strict=True):
        torch.testing.assert_close(loop, whole, rtol=FLOAT64, atol=FLOAT64)


def csnn(frames=4):
    """The network of docs/your-own-network.md: IF neurons with a hard reset, and max pooling behind them."""

    class CSNN(nn.Module):
        def __init__(self):
            super().__init__()

            def block(inputs, outputs):
                spiking = neuron.IFNode(surrogate_function=surrogate.ATan())
                convolution = layer.Conv2d(inputs, outputs, 3, padding=1, bias=False)
                return [convolution, layer.BatchNorm2d(outputs), spiking, layer.MaxPool2d(2, 2)]

            spiking = neuron.IFNode(surrogate_function=surrogate.ATan())
            self.features = nn.Sequential(*block(1, 8), *block(8, 16))
            self.classifier = nn.Sequential(layer.Flatten(), layer.Linear(64, 10, bias=False), spiking)
            functional.set_step_mode(self, "m")

        def forward(self, x):
            return self.classifier(self.features(x.unsqueeze(0).repeat(frames, 1, 1, 1, 1))).mean(0)

    return CSNN()


@pytest.fixture(scope="module")
def trained():
    """(network trained on digits, training images, all images but the test's, labels)."""
    splits = load_data("digits", {}, split_seed=0)
    (images, labels), (others, other_labels) = splits.train[:], splits.validation[:]
    torch.manual_seed(0)
    net, generator = csnn(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(15):
        for batch in torch.randperm(len(images), generator=generator).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(4 * net(images[batch]), labels[batch]).backward()
            optimizer.step()
            functional.reset_net(net)
    return net.eval(), images, torch.cat([images, others]), torch.cat([labels, other_labels])


def right(net, inputs, targets):
    with torch.no_grad():
        correct = net(inputs).argmax(-1) == targets
    functional.reset_net(net)
    return correct


@pytest.mark.parametrize("spike_bits", [1, 2, 8])
def test_a_trained_network_is_itself_after_conversion(trained, spike_bits):
    net, images, inputs, targets = trained
    before = right(net, inputs, targets)
    assert before.double().mean() > guessed(len(targets), 10)
    bits = UniformBits(weight_bits=8, spike_bits=spike_bits, time_steps=4)
    quantized = bitsearch.quantize(
        net,
        images[:64],
        start=bits,
        baseline=bits,
        first_layer=FirstLayer(weight_bits=8, spike_bits=8),
        choices=Choices(time_steps=Span(low=1, high=4)),
    ).eval()
    right(quantized, images[:256], targets[:1])
    after = right(quantized, inputs, targets)
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    # Half a point, and what rounding of the weights and of the input does to samples by chance, three standard errors.
    assert lost - gained <= 0.005 * len(targets) + 3 * (lost + gained) ** 0.5
    assert lost + gained < 0.05 * len(targets)
