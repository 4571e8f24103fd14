import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F

from bitsearch.choices import Choices
from bitsearch.layers import convert
from bitsearch.learnable import quantize
from bitsearch.models import make_network
from bitsearch.plan import LayerPlan
from bitsearch.quant import recomputation
from bitsearch.quant.compilation import can_compile, compiled_quantizers
from bitsearch.quant.recomputation import recomputed, recomputed_operands

needs_compiler = pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="no C++ compiler: install g++")
LAYERS = {
    "conv2d": lambda: (nn.Conv2d(4, 6, 3, padding=1), (5, 4, 6, 6)),
    "grouped": lambda: (nn.Conv2d(4, 8, 3, stride=2, groups=2, bias=False), (5, 4, 6, 6)),
    "circular": lambda: (nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular"), (5, 3, 6, 6)),
    "conv1d": lambda: (nn.Conv1d(3, 4, 5, stride=2), (5, 3, 17)),
    "conv3d": lambda: (nn.Conv3d(2, 3, (2, 3, 3), padding=1), (3, 2, 4, 5, 5)),
    "linear": lambda: (nn.Linear(7, 5), (6, 7)),
    "linear without bias": lambda: (nn.Linear(7, 5, bias=False), (6, 7)),
    "linear over tokens": lambda: (nn.Linear(7, 5), (3, 4, 7)),
    "linear over tokens without bias": lambda: (nn.Linear(7, 5, bias=False), (3, 4, 7)),
}
COPIES_ITS_INPUT = "circular"
"""Padding by hand makes a new tensor, which is kept in place of the spikes, recomputed or not."""


@pytest.fixture
def any_size(monkeypatch):
    """Operands of any size are recomputed."""
    monkeypatch.setattr(recomputation, "MIN_ELEMENTS", 1)


def is_learnable(kind, granularity="layer"):
    """(a quantized layer with two time steps and learnable bits, its input); steps are set."""
    torch.manual_seed(0)
    layer, shape = LAYERS[kind]()
    plan = LayerPlan(weight_bits=3, spike_bits=(3, 2), time_steps=2, granularity=granularity)
    network = convert(nn.Sequential(layer), {"0": plan}, {"0": Choices()})
    x = torch.rand(shape) * 3
    network(x)
    return network[0], x


def forward(layer, x):
    """(input of the layer, output, weak references to the memory of the spikes and of the quantized weight)."""
    seen = []
    layer.observer = lambda _, spikes, weight: seen.extend(
        StorageWeakRef(t.untyped_storage()) for t in (spikes, weight)
    )
    # Not a leaf, so that only the graph keeps it.
    inside = x * 1.5
    output = layer(inside)
    layer.observer = None
    return inside, output, seen


def results(layer, x):
    """The loss and every gradient."""
    layer.zero_grad(set_to_none=True)
    x = x.clone().requires_grad_()
    output = layer(x * 1.5)
    loss = (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum()
    loss.backward()
    return {"loss": loss, "x": x.grad, **{name: parameter.grad for name, parameter in layer.named_parameters()}}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value is not None, name
        assert torch.equal(value, other[name]), name


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize("granularity", ["layer", "channel"])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_loss_and_all_gradients_are_the_same_bit_for_bit(kind, granularity):
    layer, x = is_learnable(kind, granularity)
    plain = results(layer, x)
    assert all(gradient.abs().sum() > 0 for gradient in plain.values())
    with recomputed_operands():
        assert_equal(results(layer, x), plain)


@needs_compiler
@pytest.mark.usefixtures("any_size")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["conv2d", "linear over tokens"])
def test_with_compiled_kernels_too(kind):
    layer, x = is_learnable(kind)
    with compiled_quantizers():
        plain = results(layer, x)
        with recomputed_operands():
            assert_equal(results(layer, x), plain)


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_too(dtype):
    layer, x = is_learnable("conv2d")
    with torch.autocast("cpu", dtype=dtype):
        plain = results(layer, x)
        with recomputed_operands():
            assert_equal(results(layer, x), plain)


@pytest.mark.usefixtures("any_size")
def test_a_whole_network_with_its_penalty_too():
    torch.manual_seed(0)
    network = make_network("resnet20", {"width": 4}, input_shape=(3, 16, 16), classes=10)
    images, labels = torch.randn(4, 3, 16, 16), torch.randint(10, (4,))
    one = quantize(network, images)
    other = copy.deepcopy(one)

    def step(learnable):
        loss = F.cross_entropy(learnable(images), labels) + learnable.penalty("4x", steps=10)
        loss.backward()
        return {"loss": loss.detach(), **{name: parameter.grad for name, parameter in learnable.named_parameters()}}

    plain = step(one)
    with recomputed_operands():
        assert_equal(step(other), plain)


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize("kind", LAYERS)
def test_the_graph_keeps_the_operands_only_without_it(kind):
    layer, x = is_learnable(kind)
    # With its output alive, so that the graph is.
    _, output, plain = forward(layer, x)
    assert [reference.expired() for reference in plain] == [kind == COPIES_ITS_INPUT, False]
    del output
    assert all(reference.expired() for reference in plain)
    with recomputed_operands():
        _, output, recomputed = forward(layer, x)
    assert all(reference.expired() for reference in recomputed)
    output.sum().backward()


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize("kind", LAYERS)
def test_after_backward_nothing_is_left(kind):
    layer, x = is_learnable(kind)
    with recomputed_operands():
        inside, output, _ = forward(layer, x.requires_grad_())
    held = StorageWeakRef(inside.untyped_storage())
    del inside
    assert not held.expired()
    loss = output.sum()
    loss.backward()
    # The loss still holds the graph, whose closures must not hold the input any more.
    assert held.expired()


@pytest.mark.usefixtures("any_size")
def test_backward_may_run_twice_and_after_the_context():
    layer, x = is_learnable("linear")
    x.requires_grad_()
    with recomputed_operands():
        loss = layer(x).square().sum()
    loss.backward(retain_graph=True)
    once = layer.weight.grad.clone()
    loss.backward()
    assert torch.equal(layer.weight.grad, 2 * once)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.usefixtures("any_size")
def test_steps_that_are_bounded_before_backward_do_not_change_the_gradients():
    # As when the gradients of two batches are added up: the second forward pass clamps what the first had used.
    layer, x = is_learnable("conv2d")
    with torch.no_grad():
        layer.weight_log_step.fill_(60.0)
    plain = results(layer, x)
    layer.zero_grad(set_to_none=True)
    with recomputed_operands():
        output = layer(x * 1.5)
    layer.clamp_parameters()
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    assert layer.weight_log_step == 50
    assert torch.equal(layer.weight.grad, plain["weight"])
    assert torch.equal(layer.spike_log_step.grad, plain["spike_log_step"])


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize("changed", ["weight", "weight_bits", "spike_bits"])
def test_what_changed_before_backward_is_refused_as_torch_does(changed):
    layer, x = is_learnable("conv2d")
    with recomputed_operands():
        loss = layer(x).sum()
    with torch.no_grad():
        getattr(layer, changed).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("smallest_is_more", [0, 1])
def test_smaller_operands_are_kept(smallest_is_more, monkeypatch):
    layer, x = is_learnable("conv2d")
    assert x.numel() > layer.weight.numel()
    monkeypatch.setattr(recomputation, "MIN_ELEMENTS", x.numel() + smallest_is_more)
    with recomputed_operands():
        _, output, (spikes, weight) = forward(layer, x)
    assert output.grad_fn is not None
    assert spikes.expired() == (not smallest_is_more)
    assert not weight.expired()


def operand_expires(layer, x):
    _, output, references = forward(layer, x)
    assert output.grad_fn is not None
    return all(reference.expired() for reference in references)


@pytest.mark.usefixtures("any_size")
def test_contexts_may_be_nested_and_end_with_an_error():
    layer, x = is_learnable("conv2d")
    assert not operand_expires(layer, x)
    with recomputed_operands():
        with recomputed_operands():
            assert operand_expires(layer, x)
        assert operand_expires(layer, x)
    assert not operand_expires(layer, x)
    with pytest.raises(ZeroDivisionError), recomputed_operands():
        raise ZeroDivisionError
    assert not operand_expires(layer, x)


@pytest.mark.usefixtures("any_size")
def test_without_gradients_nothing_is_hooked():
    x = torch.ones(3)
    assert isinstance(recomputed((x, x.clone)), nullcontext)
    with recomputed_operands():
        assert not isinstance(recomputed((x, x.clone)), nullcontext)
        with torch.no_grad():
            assert isinstance(recomputed((x, x.clone)), nullcontext)


@pytest.mark.usefixtures("any_size")
def test_other_tensors_and_parts_of_an_operand_are_kept_as_they_are():
    x = torch.randn(6, requires_grad=True)
    operand = (x * 2).detach()
    calls = []

    def again():
        calls.append(1)
        return operand * 1

    with recomputed_operands(), recomputed((operand, again)):
        # The whole operand; its first half; another tensor.
        loss = (x * operand).sum() + (x[:3] * operand[:3]).sum() + (x * operand.clone()).sum()
    loss.backward()
    assert len(calls) == 1
    expected = 2 * operand
    expected[:3] += operand[:3]
    assert torch.equal(x.grad, expected)
