import copy

import pytest
import torch
from tolerances import rounding, summed
from torch import nn
from torch.nn import functional as F

from bitsearch.choices import Choices
from bitsearch.data import load_data
from bitsearch.errors import InputError
from bitsearch.layers import QuantizedLayer, apply, convert, fix_allocation, quantized_layers
from bitsearch.learnable import quantize as make_learnable
from bitsearch.plan import Baseline, BitPlan, LayerPlan, Provenance
from bitsearch.quant import renewal
from bitsearch.quant.uniform import quantize

LAYERS = {
    "conv2d": lambda: (nn.Conv2d(4, 6, 3, padding=1), (5, 4, 6, 6)),
    "grouped": lambda: (nn.Conv2d(4, 8, 3, padding=1, groups=2, bias=False), (5, 4, 6, 6)),
    "depthwise": lambda: (nn.Conv2d(4, 4, 3, groups=4), (5, 4, 6, 6)),
    "strided": lambda: (nn.Conv2d(3, 5, (3, 2), stride=(2, 1), dilation=(1, 2)), (5, 3, 9, 7)),
    "circular": lambda: (nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular"), (5, 3, 6, 6)),
    "conv1d": lambda: (nn.Conv1d(3, 4, 5, stride=2), (5, 3, 17)),
    "conv3d": lambda: (nn.Conv3d(2, 3, (2, 3, 3), padding=1), (3, 2, 4, 5, 5)),
    "linear": lambda: (nn.Linear(7, 5), (6, 7)),
    "linear_over_tokens": lambda: (nn.Linear(7, 5, bias=False), (3, 4, 7)),
}


def renew_step(*arguments, **options):
    """The renewed step as a layer keeps it, by its logarithm."""
    return renewal.renew_step(*arguments, **options).log().exp()


def plain_forward(layer, x, weight):
    """The layer's own operation on given operands, without its forward method."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, layer.bias)
    padding = layer.padding
    if layer.padding_mode == "circular":
        x, padding = F.pad(x, (1, 1, 1, 1), mode="circular"), 0
    operation = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[weight.dim()]
    return operation(x, weight, layer.bias, layer.stride, padding, layer.dilation, layer.groups)


def plan_of(weight_bits, spike_bits, **options):
    return LayerPlan(weight_bits=weight_bits, spike_bits=spike_bits, time_steps=len(spike_bits), **options)


def two_layer_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10)
    )


def bit_plan(layers):
    return BitPlan(
        space="digits",
        network="digits_cnn",
        budget=(),
        baseline=Baseline(weight_bits=8, spike_bits=4, time_steps=2, costs={}),
        layers=layers,
        costs={},
        provenance=Provenance(bitsearch="0", torch="2", seed=0, command=""),
    )


@pytest.mark.parametrize("kind", LAYERS)
def test_eight_bits_come_close_to_the_float_layer(kind):
    torch.manual_seed(1)
    layer, shape = LAYERS[kind]()
    x = torch.rand(shape) * 3
    quantized = convert(nn.Sequential(layer), {"0": plan_of(8, (8,))})
    expected, got = layer(x), quantized(x)
    assert got.shape == expected.shape
    spikes, weight = quantized[0].quantized_operands(x)
    # A candidate for the step is the one whose last level is the largest value, where every error is half a level at
    # most. The one chosen has no larger mean of errors to the power of 2.4; nor, by the power mean, of their squares.
    for rounded, exact, levels in ((spikes, x, 255), (weight, layer.weight, 127)):
        half = exact.abs().max() / levels / 2
        assert 0 < (rounded - exact).square().mean().sqrt() <= half * (1 + rounding(64))
    bare = copy.deepcopy(layer)
    bare.bias = None
    off = plain_forward(bare, (spikes - x).abs(), weight.abs()) + plain_forward(
        bare, x.abs(), (weight - layer.weight).abs()
    )
    terms = plain_forward(bare, x.abs(), layer.weight.abs()).max().item() + 1.0
    assert ((got - expected).abs() <= off + summed(64, terms)["atol"]).all()
    coarse = convert(nn.Sequential(layer), {"0": plan_of(2, (2,))})(x)
    assert (coarse - expected).norm() > (got - expected).norm() > 0


@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_output_is_that_of_an_independently_fake_quantized_layer(kind, granularity):
    torch.manual_seed(2)
    layer, shape = LAYERS[kind]()
    x = torch.rand(shape) * 3
    quantized = convert(nn.Sequential(layer), {"0": plan_of(3, (3, 2), granularity=granularity)})
    weight_bits, first_bits, second_bits = torch.tensor(3.0), torch.tensor(3.0), torch.tensor(2.0)
    weight_step = renew_step(layer.weight, weight_bits, signed=True, per_channel=granularity == "channel")
    weight = quantize(layer.weight, weight_step, weight_bits, signed=True)
    first = quantize(x, renew_step(x, first_bits, signed=False), first_bits, signed=False)
    membrane = x - first + x
    second = quantize(membrane, renew_step(membrane, second_bits, signed=False), second_bits, signed=False)
    assert torch.equal(quantized(x), plain_forward(layer, (first + second) / 2, weight))


def test_signed_input_and_decay_of_the_plan_are_used():
    torch.manual_seed(3)
    layer, x = nn.Linear(6, 3), torch.randn(16, 6)
    quantized = convert(nn.Sequential(layer), {"0": plan_of(8, (3, 3), signed_input=True, decay=0.5)})
    bits = torch.tensor(3.0)
    first = quantize(x, renew_step(x, bits, signed=True), bits, signed=True)
    membrane = 0.5 * (x - first) + x
    second = quantize(membrane, renew_step(membrane, bits, signed=True), bits, signed=True)
    assert (first < 0).any()
    eight = torch.tensor(8.0)
    weight = quantize(layer.weight, renew_step(layer.weight, eight, signed=True), eight, signed=True)
    assert torch.equal(quantized(x), F.linear((first + second) / 2, weight, layer.bias))


def test_conversion_keeps_weights_and_leaves_the_original_as_it_was():
    network = two_layer_network()
    before = copy.deepcopy(network)
    quantized = convert(network, {"0": plan_of(8, (8,), signed_input=True), "4": plan_of(2, (1, 2))})
    for name, value in before.state_dict().items():
        assert torch.equal(quantized.state_dict()[name], value), name
    with torch.no_grad():
        quantized(load_data("digits", {}, split_seed=0).train.tensors[0][:8])
        for parameter in quantized.parameters():
            parameter.add_(1)
    assert [type(module) for module in network.modules()] == [type(module) for module in before.modules()]
    assert network.state_dict().keys() == before.state_dict().keys()
    for name, value in before.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])
    assert list(quantized_layers(quantized)) == ["0", "4"]


def test_layers_that_the_plan_does_not_name_stay_float():
    quantized = convert(two_layer_network(), {"4": plan_of(2, (2,))})
    assert type(quantized[0]) is nn.Conv2d
    assert isinstance(quantized[4], QuantizedLayer)


def test_conversion_keeps_the_layers_hooks_and_mode():
    network = two_layer_network().eval()
    calls = []
    network[4].register_forward_hook(lambda module, args, output: calls.append(type(module).__name__))
    quantized = convert(network, {"4": plan_of(2, (2,))})
    quantized(torch.rand(2, 1, 8, 8))
    assert calls == ["QuantizedLinear"]
    assert not quantized[4].training


class OwnLinear(nn.Linear):
    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize(
    ("network", "name", "said"),
    [
        (nn.Sequential(nn.Linear(2, 2)), "head", "no layer 'head' that can be quantized; it has: 0"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "1", "no layer '1' that can be quantized; it has: 0"),
        (nn.Sequential(nn.Embedding(2, 2), nn.Linear(2, 2)), "0", "no layer '0' that can be quantized"),
        (nn.Sequential(OwnLinear(2, 2), nn.Linear(2, 2)), "0", "no layer '0' that can be quantized; it has: 1"),
        (convert(nn.Sequential(nn.Linear(2, 2)), {"0": plan_of(2, (2,))}), "0", "layer '0' is quantized already"),
    ],
    ids=["unknown name", "no layer", "embedding", "subclass", "quantized already"],
)
def test_what_cannot_be_quantized_is_refused_in_one_line(network, name, said):
    with pytest.raises(InputError) as caught:
        convert(network, {name: plan_of(2, (2,))})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fix_allocation_fixes_every_layer():
    choices = Choices()
    network = convert(two_layer_network(), {"0": plan_of(8, (8,)), "4": plan_of(4, (4, 4))}, {"4": choices})
    plan = {"0": plan_of(8, (8,)), "4": plan_of(3, (1, 2, 5))}
    fix_allocation(network, plan)
    assert {name: layer.layer_plan for name, layer in quantized_layers(network).items()} == plan
    assert not any(layer.is_learnable for layer in quantized_layers(network).values())


def test_apply_quantizes_exactly_the_plans_layers_at_its_bits():
    network = two_layer_network()
    layers = {"0": plan_of(8, (8,), signed_input=True), "4": plan_of(2, (1, 3), granularity="channel", decay=0.5)}
    quantized = apply(bit_plan(layers), network)
    assert {name: layer.layer_plan for name, layer in quantized_layers(quantized).items()} == layers
    assert not any("latent" in name for name, _ in quantized.named_parameters())
    assert quantized(torch.randn(4, 1, 8, 8)).shape == (4, 10)
    assert type(network[4]) is nn.Linear


def test_apply_refuses_a_plan_of_another_network():
    with pytest.raises(InputError, match="no layer 'classifier'"):
        apply(bit_plan({"classifier": plan_of(2, (2,))}), two_layer_network())


def test_a_plan_read_from_json_gives_the_same_network():
    torch.manual_seed(0)
    network, x = two_layer_network(), torch.randn(4, 1, 8, 8)
    plan = bit_plan({"0": plan_of(8, (8,), signed_input=True), "4": plan_of(2, (1, 3))})
    again = BitPlan.from_json(plan.to_json())
    assert torch.equal(apply(plan, network).eval()(x), apply(again, network).eval()(x))


def test_nothing_is_left_to_quantize_twice_in_a_learnable_network():
    network = make_learnable(two_layer_network(), torch.randn(4, 1, 8, 8))
    with pytest.raises(InputError, match="quantized already"):
        convert(network.network, {"4": plan_of(2, (2,))})
