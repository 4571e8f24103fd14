import pytest
import torch
from cost_problems import LAYERS, make_target
from spikingjelly.activation_based import neuron
from torch import nn

from bitsearch.choices import Choices, FirstLayer, NeuronChoice
from bitsearch.cost import AllowedBits, CostModel, check_first_layer
from bitsearch.cost.limits import check_limits, limit_faults
from bitsearch.cost.tracing import trace
from bitsearch.errors import InputError


class Network(nn.Module):
    """Two convolutions with a pooling and neurons between, and a linear layer: 1×8×8 to 10."""

    def __init__(self, node=None):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 5, padding=2)
        self.node1 = node or neuron.IFNode(v_reset=None)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        x = self.conv2(self.pool(self.node1(self.conv1(x))))
        return self.fc(self.relu(x).flatten(1))


def traced(network=None, x=None, **target_fields):
    geometry = trace(network or Network(), torch.rand(2, 1, 8, 8) if x is None else x)
    return CostModel(geometry, target=make_target("chip", **target_fields))


def refusal(model):
    with pytest.raises(InputError) as error:
        check_limits(model)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    return message


# Limits that the network just keeps to, and what is said where they are one below.
KEPT = {
    "layers": (3, "the network has 3 layers"),
    # 4 × 8 × 8 in front of the pooling, 8 × 2 × 2 in front of the linear layer.
    "neurons": (288, "the network has 288 neurons, 256 of them in layer 'conv2'"),
    "synapses": (100 + 72 + 320, "the network has 492 weights, 320 of them in layer 'fc'"),
    "fan_in": (32, "layer 'fc' has 32 inputs a neuron"),
    "fan_out": (10, "layer 'fc' has 10 neurons that a spike goes to"),
    "input_channels": (1, None),
    "input_size": (8, "layer 'conv1' has 8 pixels a side"),
    "output_channels": (10, "layer 'fc' has 10 output channels"),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_limit_is_kept_or_named_with_the_layer(name):
    most, excess = KEPT[name]
    check_limits(traced(limits={name: most}))
    if excess is not None:
        message = refusal(traced(limits={name: most - 1}))
        assert message == (
            f"{excess}, but the hardware target 'chip' allows {most - 1} (limits.{name}); change the network, or take "
            "another target"
        )


def test_channels_of_the_input_are_limited():
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 10))
    check_limits(traced(network, torch.rand(2, 3, 8, 8), limits={"input_channels": 3}))
    message = refusal(traced(network, torch.rand(2, 3, 8, 8), limits={"input_channels": 2}))
    assert message.startswith("layer '0' has 3 input channels, but the hardware target 'chip' allows 2 (limits.input_c")


@pytest.mark.parametrize(
    ("fields", "excess", "limit"),
    [
        ({"convolution": {"kernel_sizes": [1, 3]}}, "layer 'conv1' has a kernel of 5×5", "1, 3 (convolution.kernel_"),
        ({"depthwise": {"kernel_sizes": {"low": 4, "high": 9}}}, "layer 'conv2' has a kernel of 3×3", "4, 5, 6, 7, 8"),
        ({"convolution": {"strides": [1]}}, "layer 'conv2' has strides of 2×2", "1 (convolution.strides)"),
        ({"depthwise": {"input_channels": 3}}, "layer 'conv2' has 4 input channels", "3 (depthwise.input_channels)"),
        ({"linear": {"output_channels": 9}}, "layer 'fc' has 10 output channels", "9 (linear.output_channels)"),
        (
            {"limits": {"layer_kinds": ["convolution", "linear"]}},
            "layer 'conv2' is a depthwise layer",
            "convolution, linear layers (limits.layer_kinds)",
        ),
        ({"limits": {"pooling": ["average", "sum"]}}, "layer 'pool' has max pooling", "average or sum pooling"),
        ({"limits": {"pooling": []}}, "layer 'pool' has max pooling", "no pooling (limits.pooling)"),
    ],
)
def test_kinds_of_layers_and_poolings_are_limited(fields, excess, limit):
    message = refusal(traced(**fields))
    assert message.startswith(f"{excess}, but the hardware target 'chip' allows {limit}")


def test_what_the_tables_allow_is_kept():
    check_limits(
        traced(
            convolution={"kernel_sizes": [5], "strides": [1], "input_channels": 1, "output_channels": 4},
            depthwise={"kernel_sizes": [3], "strides": [2], "input_channels": 4, "output_channels": 8},
            linear={"input_channels": 32, "output_channels": 10},
            transposed={"kernel_sizes": [2]},
            limits={"layer_kinds": ["convolution", "depthwise", "linear"], "pooling": ["max"]},
        )
    )


def test_the_others_that_exceed_a_limit_are_named_too():
    message = refusal(traced(convolution={"kernel_sizes": [7]}, limits={"fan_in": 9}))
    assert message.startswith("layer 'conv1' has a kernel of 5×5, but")
    assert message.endswith("; layer 'conv2', layer 'fc' exceed limits as well")


class TwoHeads(nn.Module):
    """The wider head runs first; neurons and a mean over time stand behind both."""

    def __init__(self):
        super().__init__()
        self.body, self.relu = nn.Linear(4, 6), nn.ReLU()
        self.wide, self.narrow = nn.Linear(6, 7), nn.Linear(6, 3)
        self.fire, self.fire2 = neuron.IFNode(v_reset=None), neuron.IFNode(v_reset=None)

    def forward(self, x):
        x = self.relu(self.body(x))
        return self.fire(self.wide(x)).mean(1), {"narrow": torch.softmax(self.fire2(self.narrow(x)), 1)}


def test_every_head_is_limited_and_all_together():
    def model(most):
        return traced(TwoHeads(), torch.rand(2, 4), limits={"output_channels": most})

    assert [layer.name for layer in model(10).heads] == ["wide", "narrow"]
    check_limits(model(10))
    assert refusal(model(9)).startswith(
        "the network has 10 output channels, those of layers 'wide', 'narrow', but the hardware target 'chip' allows 9 "
    )
    assert refusal(model(6)).startswith("layer 'wide' has 7 output channels, but the hardware target 'chip' allows 6 ")


def test_what_the_target_fixes_of_the_last_layer_holds_for_every_head():
    model = traced(TwoHeads(), torch.rand(2, 4), last_layer={"weight_bits": 5})
    rules = AllowedBits.make(model, Choices(), FirstLayer())
    assert [list(rules.choices[name].weight_bits.values) == [5] for name in ("body", "wide", "narrow")] == [0, 1, 1]


class OwnLinear(nn.Linear):
    """Keeps 32 bits, since it may compute something else."""


def test_what_gets_no_bits_is_no_layer_of_the_chips():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), OwnLinear(8, 4))
    with pytest.warns(UserWarning, match="kept at 32 bits: 2"):
        model = traced(network, limits={"layer_kinds": ["linear"]})
    assert refusal(model).startswith("layer '2' gets no bits (a subclass of Linear (test_limits.OwnLinear)), but the ")
    geometry = trace(Network(), torch.rand(2, 1, 8, 8), exclude=["conv*"])
    # What the user leaves out runs elsewhere.
    check_limits(CostModel(geometry, target=make_target("chip", limits={"layer_kinds": ["linear"]})))


def test_without_a_limit_nothing_is_looked_at():
    assert list(limit_faults(CostModel(LAYERS, target=make_target()))) == []


def test_what_was_not_recorded_is_not_taken_for_kept():
    # As in scores that an earlier version kept.
    for fields in ({"limits": {"fan_in": 10**6}}, {"linear": {"weight_bits": [1]}}):
        assert "recorded without its shape" in refusal(CostModel(LAYERS, target=make_target("chip", **fields)))
    geometry = list(trace(Network(), torch.rand(2, 1, 8, 8)))
    message = refusal(CostModel(geometry, target=make_target("chip", limits={"pooling": ["max"]})))
    assert message.startswith("the network was recorded without its poolings")


def test_the_rules_of_a_search_refuse_what_exceeds_a_limit():
    model = traced(convolution={"kernel_sizes": [3]})
    with pytest.raises(InputError, match="layer 'conv1' has a kernel of 5×5"):
        AllowedBits.make(model, Choices(), FirstLayer())


# Weight bits by kind.
def test_weight_bits_of_a_kind_take_the_place_of_the_targets():
    model = traced(weight_bits=[4], convolution={"weight_bits": [2, 8]}, linear={"weight_bits": [1, 2]})
    rules = AllowedBits.make(model, Choices(), FirstLayer())
    assert {name: rules.choices[name].weight_bits.values for name in rules.choices} == {
        "conv1": (8,),
        "conv2": (2, 8),
        "fc": (1, 2),
    }
    assert "target 'chip', [linear]" in rules.origin("fc")


def test_the_first_layers_own_bits_keep_to_its_kind():
    target = make_target("chip", weight_bits=[4], convolution={"weight_bits": [2, 4]})
    with pytest.raises(InputError, match=r"first_layer\.weight_bits is 8, but the hardware target 'chip' allows 2, 4"):
        check_first_layer(FirstLayer(), target)
    check_first_layer(FirstLayer(weight_bits=2), target)
    model = traced(weight_bits=[4, 8], convolution={"weight_bits": [2, 4]})
    check_first_layer(FirstLayer(), model.target)
    with pytest.raises(
        InputError, match=r"layer 'conv1' may get weight_bits 8 by first_layer, and by target 'chip', \[c"
    ):
        AllowedBits.make(model, Choices(), FirstLayer())


# Kinds of reset.
def rules(node, resets, time_steps):
    return AllowedBits.make(
        traced(Network(node), limits={"resets": resets}), Choices(time_steps=time_steps), FirstLayer()
    )


def test_several_time_steps_ask_for_a_reset_that_the_chip_has():
    subtracts, zeroes = neuron.IFNode(v_reset=None), neuron.IFNode(v_reset=0.0)
    with pytest.raises(InputError) as error:
        rules(zeroes, ["subtract"], [1, 4])
    assert str(error.value) == (
        "layer 'conv2' has neurons with reset 'zero' and up to 4 time steps, but the hardware target 'chip' allows "
        "subtract (limits.resets); set neuron.reset in the search space, give the network such neurons, or one time "
        "step"
    )
    with pytest.raises(InputError, match="layer 'conv2' has neurons with reset 'subtract'"):
        rules(subtracts, ["zero", "delayed"], [1, 2])
    # The linear layer reads a ReLU, for which its neurons subtract.
    with pytest.raises(InputError, match="layer 'fc' has neurons with reset 'subtract'"):
        rules(zeroes, ["zero"], [2])
    assert rules(subtracts, ["subtract"], [1, 4]).choices["conv2"].time_steps.values == (1, 4)
    assert rules(zeroes, ["subtract"], [1]).choices["conv2"].time_steps.values == (1,)


def test_a_reset_that_the_search_space_chooses_is_the_one_that_counts():
    model = traced(Network(neuron.IFNode(v_reset=0.0)), limits={"resets": ["subtract"]})
    model.choose_neurons(NeuronChoice(reset="subtract"))
    AllowedBits.make(model, Choices(), FirstLayer())
    # Neurons with a sign subtract, whatever is chosen.
    signed = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 4))
    model = traced(signed, limits={"resets": ["zero"]})
    model.choose_neurons(NeuronChoice(reset="zero"))
    with pytest.raises(InputError, match="layer '2' has neurons with reset 'subtract'"):
        AllowedBits.make(model, Choices(), FirstLayer())
