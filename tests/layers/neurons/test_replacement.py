import copy

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from tolerances import chained
from torch import nn

from bitsearch.deploy.lower.lowering import lower
from bitsearch.errors import InputError
from bitsearch.layers import QuantizedLayer, convert
from bitsearch.layers.neurons.input_current import InputCurrent
from bitsearch.layers.neurons.placed_neuron import PlacedNeuron
from bitsearch.learnable import quantize
from bitsearch.plan import LayerPlan

T = 4
GIVEN_WAY = InputCurrent


def bits(weight=4, spike=2, time_steps=2, **options):
    return LayerPlan(weight_bits=weight, spike_bits=(spike,) * time_steps, time_steps=time_steps, **options)


def multi_step(*modules):
    network = nn.Sequential(*modules)
    functional.set_step_mode(network, "m")
    return network


def conv_network(node=neuron.IFNode):
    torch.manual_seed(0)
    return multi_step(
        layer.Conv2d(2, 4, 3, padding=1, bias=False),
        layer.BatchNorm2d(4),
        node(),
        layer.MaxPool2d(2),
        layer.Conv2d(4, 4, 3, padding=1),
        node(),
        layer.Flatten(),
        layer.Linear(64, 10),
        node(),
    )


def sequence(batch=3):
    return torch.rand(T, batch, 2, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_multi_step_network_is_quantized_with_its_time_axis():
    network = conv_network()
    before = copy.deepcopy(network.state_dict())
    quantized = quantize(network, sequence())
    plans = quantized.layer_plans
    assert list(plans) == ["0", "4", "7"]
    assert {plan.frames for plan in plans.values()} == {T}
    # The first layer sees every frame; no layer may get more time steps than there are frames.
    assert plans["0"].time_steps == T
    assert quantized.rules.choices["4"].time_steps.values == (1, 2, 3, 4)
    assert quantized(sequence()).shape == (T, 3, 10)
    for name, tensor in before.items():
        assert torch.equal(network.state_dict()[name], tensor)
        if name.rpartition(".")[2] in ("weight", "bias"):
            assert torch.equal(quantized.network.state_dict()[name], tensor)
    assert isinstance(network[2], neuron.IFNode)


def test_neurons_before_quantized_layers_give_way_and_the_readout_stays():
    quantized = quantize(conv_network(), sequence())
    assert isinstance(quantized.network[2], GIVEN_WAY)
    assert type(quantized.network[8]) is neuron.IFNode
    rows = {row.name: row for row in quantized.conversion}
    assert [rows[name].became for name in ("0", "4", "7")] == ["a quantized layer"] * 3
    assert (rows["2"].became, rows["5"].became) == ("the refined neuron of 4", "the refined neuron of 7")
    assert (rows["8"].kind, rows["8"].became, rows["8"].why) == ("IFNode", "left", "the network returns its spikes")


@pytest.mark.parametrize(
    ("made", "decay", "gain"),
    [
        (lambda: neuron.IFNode(), 1.0, 1.0),
        (lambda: neuron.IFNode(v_threshold=2.0), 1.0, 0.5),
        (lambda: neuron.LIFNode(tau=4.0), 0.75, 0.25),
        (lambda: neuron.LIFNode(tau=4.0, decay_input=False), 0.75, 1.0),
        (lambda: neuron.ParametricLIFNode(init_tau=2.0, decay_input=False), 0.5, 1.0),
        (lambda: neuron.ParametricLIFNode(init_tau=2.0, v_threshold=0.5), 0.5, 1.0),
        (lambda: neuron.ILIFNode(tau=2.0), 0.5, 1.0),
    ],
)
def test_the_leak_becomes_the_decay_and_the_threshold_the_unit(made, decay, gain):
    quantized = quantize(conv_network(made), sequence())
    assert quantized.layer_plans["4"].decay == pytest.approx(decay)
    assert quantized.layer_plans["7"].decay == pytest.approx(decay)
    # Before the first neuron nothing decays.
    assert quantized.layer_plans["0"].decay == 1.0
    placed = quantized.network[2]
    assert type(placed) is PlacedNeuron
    x = torch.tensor([-1.0, 0.5, 3.0])
    torch.testing.assert_close(placed.current(x), gain * x, **chained(2))


def test_a_decay_that_is_asked_for_wins():
    quantized = quantize(conv_network(neuron.LIFNode), sequence(), decay=1.0)
    assert {plan.decay for plan in quantized.layer_plans.values()} == {1.0}


@pytest.mark.parametrize("time_steps", [1, 2, 4])
@pytest.mark.parametrize("tau", [None, 2.0, 4.0])
def test_one_bit_spikes_are_those_of_the_neuron_that_was_there(time_steps, tau):
    """On a grid of ±1 weights and threshold 1, with a soft reset and a membrane that starts at half the threshold."""
    frames = time_steps
    torch.manual_seed(1)
    node = neuron.IFNode(v_reset=None) if tau is None else neuron.LIFNode(tau=tau, decay_input=False, v_reset=None)
    network = multi_step(layer.Linear(6, 8), node, layer.Linear(8, 5, bias=False))
    network[2].weight.data.sign_()
    x = torch.randn(frames, 7, 6)
    if tau is None:
        # An integrate-and-fire neuron's membrane keeps the half threshold that it starts with.
        node.v = torch.full((7, 8), 0.5)
        wanted = network(x)
        functional.reset_net(network)
    else:
        # A leaky one forgets it, so the same rounding is asked of it by hand.
        current, membrane, fired = network[0](x), torch.zeros(7, 8), []
        for t in range(frames):
            membrane = (1 - 1 / tau) * membrane + current[t]
            fired.append((membrane >= 0.5).float())
            membrane = membrane - fired[-1]
        wanted = network[2](torch.stack(fired))
    plan = bits(weight=1, spike=1, time_steps=time_steps, frames=frames, decay=1.0 if tau is None else 1 - 1 / tau)
    converted = convert(network, {"2": plan})
    # Step sizes of one: the logarithms are zero, and set for these bits.
    converted[2].weight_step_bits.fill_(1)
    converted[2].spike_step_bits.fill_(1)
    converted[2].refresh_cache()
    # Named alone, the float layer in front keeps its weights.
    # Sums of ones, exact in any order.
    torch.testing.assert_close(converted(x), wanted, rtol=0, atol=0)


def test_an_excluded_layer_keeps_its_neuron_and_its_weights():
    quantized = quantize(conv_network(), sequence(), exclude=["4"])
    assert list(quantized.layer_plans) == ["0", "7"]
    assert type(quantized.network[2]) is neuron.IFNode
    assert isinstance(quantized.network[5], GIVEN_WAY)
    rows = {row.name: (row.became, row.why) for row in quantized.conversion}
    assert rows["4"] == ("left", "excluded")
    assert rows["2"] == ("left", "4 reads its spikes and keeps 32 bits")
    assert quantized.model.unquantized[0].fixed_reason == "excluded"


def test_what_no_refined_neuron_can_stand_for_is_left_and_named():
    quantized = quantize(conv_network(neuron.KLIFNode), sequence())
    assert type(quantized.network[2]) is neuron.KLIFNode
    rows = {row.name: row for row in quantized.conversion}
    assert (rows["2"].kind, rows["2"].became) == ("KLIFNode", "left")
    assert rows["2"].why == "keeps a state that no refined neuron has"
    quantized.network(sequence())


def test_single_step_networks_get_their_time_steps_inside():
    torch.manual_seed(0)
    network = nn.Sequential(layer.Conv2d(2, 4, 3), neuron.LIFNode(), layer.Flatten(), layer.Linear(144, 10))
    quantized = quantize(network, sequence()[0])
    assert {plan.frames for plan in quantized.layer_plans.values()} == {None}
    assert quantized.layer_plans["0"].time_steps == 1
    assert quantized.layer_plans["3"].time_steps == 2
    assert quantized(sequence()[0]).shape == (3, 10)


class TimeInside(nn.Module):
    """As SpikingJelly's tutorials write it: a static image, repeated, and the firing rate at the end."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            layer.SeqToANNContainer(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)),
            neuron.IFNode(step_mode="m"),
            layer.SeqToANNContainer(nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.Flatten()),
        )
        self.spike = neuron.IFNode(step_mode="m")
        self.fc = layer.Linear(16, 10, step_mode="m")

    def forward(self, x):
        y = self.spike(self.features(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)))
        return self.fc(y).mean(0)


def test_a_time_axis_made_inside_the_network_is_found():
    torch.manual_seed(0)
    quantized = quantize(TimeInside(), sequence()[0])
    assert {plan.frames for plan in quantized.layer_plans.values()} == {T}
    assert set(quantized.layer_plans) == {"features.0.0", "features.2.1", "fc"}
    # The same image in every frame: once is enough for the first layer.
    assert quantized.layer_plans["features.0.0"].time_steps == 1
    assert quantized(sequence()[0]).shape == (3, 10)
    assert isinstance(quantized.network.spike, GIVEN_WAY)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = layer.Conv2d(2, 4, 3, padding=1)
        self.sn = neuron.IFNode()
        self.conv = layer.Conv2d(4, 4, 3, padding=1)
        self.sn2 = neuron.IFNode()
        self.fc = layer.Linear(256, 10)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        y = self.sn(self.stem(x))
        y = y + self.sn2(self.conv(y))
        return self.fc(y.flatten(2))


@pytest.mark.parametrize("time_steps", [1, 2, 3])
def test_branches_with_different_time_steps_add_up(time_steps):
    torch.manual_seed(0)
    quantized = quantize(Residual(), sequence())
    quantized.layers["conv"].round_latents(4.0, [4.0] * 4, float(time_steps))
    quantized.layers["fc"].round_latents(4.0, [4.0] * 4, 4.0)
    assert quantized.layer_plans["conv"].time_steps == time_steps
    assert quantized(sequence()).shape == (T, 3, 10)


class DataDependent(nn.Module):
    """No tracer follows this."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.fc = nn.Linear(4, 10)

    def forward(self, x):
        y = torch.relu(self.conv(x))
        if float(y.detach().mean()) > 1e9:
            y = y[y.sum((1, 2, 3)) > 0]
        return self.fc(y.mean((2, 3)))


def test_a_network_that_cannot_be_traced_converts():
    torch.manual_seed(0)
    quantized = quantize(DataDependent(), sequence()[0])
    assert set(quantized.layer_plans) == {"conv", "fc"}
    assert quantized(sequence()[0]).shape == (3, 10)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(6, 6) for _ in range(4))

    def forward(self, x):
        q, k, v = self.q(x), self.k(x), self.v(x)
        return self.out((q @ k.transpose(-1, -2)).softmax(-1) @ v).mean(1)


@pytest.mark.filterwarnings("ignore:kept at 32 bits")
def test_attentions_projections_are_quantized():
    torch.manual_seed(0)
    quantized = quantize(Attention(), torch.rand(3, 5, 6))
    assert set(quantized.layer_plans) == {"q", "k", "v", "out"}
    assert quantized(torch.rand(3, 5, 6)).shape == (3, 6)


def test_globs_name_modules_and_what_is_inside_them():
    network = TimeInside()
    assert set(quantize(network, sequence()[0], include=["features"]).layer_plans) == {"features.0.0", "features.2.1"}
    assert set(quantize(network, sequence()[0], include=["*.1", "fc"]).layer_plans) == {"features.2.1", "fc"}
    assert set(quantize(network, sequence()[0], exclude=["features.0"]).layer_plans) == {"features.2.1", "fc"}
    with pytest.raises(InputError, match=r"no module matches 'layer1\.\*'; the layers that can be given bits: feat"):
        quantize(network, sequence()[0], exclude=["layer1.*"])
    with pytest.raises(InputError, match="no convolution or linear layer"):
        quantize(network, sequence()[0], exclude=["*"])


def test_a_neuron_that_has_just_run_converts():
    network = conv_network()
    network(sequence()).sum().backward()
    quantized = quantize(network, sequence())
    assert isinstance(quantized.network[4], QuantizedLayer)


def test_a_shared_neuron_is_replaced_everywhere():
    shared = neuron.IFNode()
    network = multi_step(layer.Linear(4, 4), shared, layer.Linear(4, 4), shared, layer.Linear(4, 2))
    quantized = quantize(network, torch.rand(T, 3, 4))
    assert isinstance(quantized.network[1], GIVEN_WAY)
    assert isinstance(quantized.network[3], GIVEN_WAY)


def test_a_single_frame_is_a_static_input():
    quantized = quantize(conv_network(), sequence()[:1])
    assert {plan.frames for plan in quantized.layer_plans.values()} == {None}
    assert quantized.layer_plans["4"].time_steps == 2
    assert quantized(sequence()[:1]).shape == (1, 3, 10)


def test_a_current_that_neurons_alone_read_may_be_negative():
    network = multi_step(
        layer.Linear(4, 4), neuron.IFNode(v_threshold=2.0), layer.Linear(4, 4), nn.ReLU(), layer.Linear(4, 2)
    )
    quantized = quantize(network, torch.rand(T, 3, 4)).network
    torch.testing.assert_close(quantized[1](torch.tensor([-1.0, 1.0])), torch.tensor([-0.5, 0.5]), **chained(2))
    # A ReLU of the user's own is what it was.
    assert type(quantized[3]) is nn.ReLU


def test_a_threshold_a_channel_scales_every_channel():
    threshold = torch.tensor([0.5, 1.0, 2.0, 4.0])
    network = nn.Sequential(nn.Linear(3, 4), neuron.IFNode(), nn.Linear(4, 2))
    network[1].v_threshold = threshold
    converted = convert(network, {"0": bits(neurons=()), "2": bits(neurons=("1",))})
    x = torch.rand(5, 4)
    torch.testing.assert_close(converted[1](x), x / threshold, **chained(2))
    converted(torch.rand(5, 3))
    with pytest.raises(InputError, match="has 4 thresholds; a deployed neuron has one"):
        lower(converted.eval(), torch.rand(5, 3))


def test_a_pooled_neuron_of_two_names_is_rectified_under_both():
    shared = neuron.IFNode()
    network = nn.Sequential(nn.Linear(4, 4), shared, nn.Linear(4, 4), shared, nn.Linear(4, 2))
    plan = {"0": bits(neurons=()), "2": bits(neurons=("1",), pooled=True), "4": bits(neurons=("1",))}
    converted = convert(network, plan)
    assert (converted[1].rectified, converted[3].rectified) == (True, True)
