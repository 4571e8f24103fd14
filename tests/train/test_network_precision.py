"""A quantized network under autocast, gradient scaling and compilers."""

import copy
from contextlib import nullcontext

import pytest
import torch
from tolerances import rounding
from torch import nn
from torch.nn import functional as F

from bitsearch.layers import convert
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.learnable import quantize
from bitsearch.plan import LayerPlan, UniformBits
from bitsearch.quant.compilation import can_compile, compiled_quantizers
from bitsearch.quant.recomputation import recomputed_operands

needs_compiler = pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="no C++ compiler: install g++")
HALF = [torch.bfloat16, torch.float16]
COMPILED = 2 * rounding(16)
"""The same for float64 in another order of summation, which takes no activation across a boundary: all that is float32
there are the latents' gradients and the penalty, each some ten operations on numbers that do not cancel."""


def double(network, batch):
    """Both in float64; latents and what belongs to them stay float32."""
    return network.double(), (batch[0].double(), batch[1])


def steps_in_double(learnable):
    for layer in learnable.layers.values():
        for step in (layer.weight_log_step, layer.spike_log_step):
            step.data = step.data.double()
    return learnable


def with_steps(network, batch):
    """The network with learnable bits, steps set."""
    learnable = quantize(network, batch[0][:8])
    learnable(batch[0])
    return learnable


def set_steps(layer):
    """Steps of one, set for the bits that the layer has."""
    with torch.no_grad():
        layer.weight_log_step.zero_()
        layer.spike_log_step.zero_()
        layer.weight_step_bits.copy_(layer.weight_bits)
        layer.spike_step_bits.copy_(layer.spike_bits)
    layer.refresh_cache()


@pytest.fixture
def exact():
    """(learnable network, images, coefficients of its logits) whose every number half precision holds exactly.

    Steps are one, so that weights are −1, 0 and 1 (at the first layer −2 to 2) and spikes halves up to 3 (inputs −2 to
    2); pixels and weights before they are quantized are quarters. One logit a sample has a coefficient of ±1. Whatever
    is added up is then a multiple of a quarter, and all terms of a sum come to 64 at most: for the first layer's
    weights 4 samples × 4 places × gradients of 2 × inputs of 2. So bfloat16, which has 8 significant bits, and float16
    hold every part of every sum, in any order and whatever a kernel adds up in; and float32 holds every part of a
    step's gradient, which is a multiple of 1/16.
    """
    generator = torch.Generator().manual_seed(0)

    def quarters(shape, largest):
        return torch.randint(-4 * largest, 4 * largest + 1, shape, generator=generator) / 4

    network = nn.Sequential(
        nn.Conv2d(1, 2, 2, stride=2),
        nn.BatchNorm2d(2, eps=0.25),
        nn.ReLU(),
        nn.Conv2d(2, 2, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2, 3),
    ).eval()
    with torch.no_grad():
        network[1].running_var.fill_(0.75)
        for layer in (network[0], network[3], network[6]):
            layer.weight.copy_(quarters(layer.weight.shape, 2))
            layer.bias.copy_(2 * quarters(layer.bias.shape, 1))
    images = quarters((4, 1, 4, 4), 2)
    learnable = quantize(network, images, start=UniformBits(weight_bits=2, spike_bits=2, time_steps=2)).eval()
    for layer in learnable.layers.values():
        set_steps(layer)
    coefficients = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, 1], [-1, 0, 0]])
    return learnable, images, coefficients


def gradients(learnable, batch, run=None, dtype=None, loss_of=F.cross_entropy):
    """(logits, loss, gradients by name) of one step, unscaled."""
    learnable.zero_grad(set_to_none=True)
    images = batch[0].clone().requires_grad_()
    # No gradient of the exact network overflows: 64·2⁹ is below float16's largest number, 65504.
    scaler = torch.amp.GradScaler("cpu", enabled=dtype == torch.float16, init_scale=2.0**9)
    optimizer = torch.optim.SGD(learnable.parameters(), lr=0.0)
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        logits = (learnable if run is None else run)(images)
        loss = loss_of(logits, batch[1]) + learnable.penalty("4x", steps=10)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    found = {name: parameter.grad for name, parameter in learnable.named_parameters()}
    assert images.grad.dtype == images.dtype
    assert all(parameter.grad.dtype == parameter.dtype for parameter in learnable.parameters())
    if dtype is not None:
        assert logits.dtype == dtype
        assert {parameter.dtype for parameter in learnable.parameters()} == {torch.float32}
    # Images are no parameters: their gradient is still scaled.
    found["images"] = images.grad / scaler.get_scale()
    return logits.detach(), loss.detach(), found


def assert_near(got, wanted, tolerance):
    logits, loss, found = got
    assert (logits - wanted[0]).norm() < tolerance * wanted[0].norm()
    assert loss.item() == pytest.approx(wanted[1].item(), rel=tolerance)
    assert found.keys() == wanted[2].keys()
    for kind in ("weight", "bias", "log_step", "latent", "images"):
        same = {name: gradient for name, gradient in wanted[2].items() if name.endswith(kind)}
        largest = max(gradient.norm() for gradient in same.values())
        for name, gradient in same.items():
            assert found[name].any(), name
            assert (found[name] - gradient).norm() < tolerance * largest, name


@pytest.mark.parametrize("dtype", HALF)
def test_autocast_and_gradient_scaling_change_no_number_that_half_precision_holds(exact, dtype):
    learnable, images, coefficients = exact

    def weighted(logits, coefficients):
        return (logits * coefficients).sum()

    batch = images, coefficients
    wanted = gradients(copy.deepcopy(learnable), batch, loss_of=weighted)
    got = gradients(learnable, batch, dtype=dtype, loss_of=weighted)
    assert len(wanted[0].unique()) > 4
    assert torch.equal(got[0].float(), wanted[0])
    assert torch.equal(got[1], wanted[1])
    assert got[2].keys() == wanted[2].keys()
    for name, gradient in wanted[2].items():
        assert gradient.any(), name
        assert torch.equal(got[2][name], gradient), name


@pytest.mark.parametrize("dtype", HALF)
def test_under_autocast_every_gradient_of_a_trained_network_is_there(network, batch, dtype):
    # How near they are to float32's has no bound: rounding to half precision takes some activations over a rounding
    # boundary of the quantizer, a whole step at once.
    _, loss, found = gradients(with_steps(network, batch), batch, dtype=dtype)
    assert loss.isfinite()
    for name, gradient in found.items():
        assert gradient.isfinite().all(), name
        assert gradient.any(), name


@pytest.mark.parametrize("dtype", HALF)
def test_a_network_trains_and_projects_under_autocast(network, batch, dtype):
    learnable = quantize(network, batch[0][:8])
    optimizer = torch.optim.Adam(learnable.parameter_groups(1e-3), lr=1e-3)
    learnable.watch(optimizer)
    scaler = torch.amp.GradScaler("cpu", enabled=dtype == torch.float16)
    losses = []
    for _ in range(12):
        with torch.autocast("cpu", dtype=dtype):
            task = F.cross_entropy(learnable(batch[0]), batch[1])
            loss = task + learnable.penalty("4x", steps=10)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(task.item())
    assert min(losses[6:]) < losses[0]
    assert learnable.changes > 0
    plan = learnable.project("4x")
    assert learnable.model.cost("bit_budget", plan) <= learnable.budget("4x").limit


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ["0", "3", "6"])
def test_a_layer_whose_input_half_precision_holds_gets_the_same_steps_under_autocast(exact, name, dtype):
    learnable, images, _ = exact
    other = copy.deepcopy(learnable)
    for each in (learnable, other):
        layer = each.layers[name]
        layer.weight_step_bits.zero_()
        layer.spike_step_bits.zero_()
        layer.refresh_cache()
    learnable(images)
    with torch.autocast("cpu", dtype=dtype):
        other(images)
    assert (learnable.layers[name].weight_log_step != 0).all()
    assert learnable.layers[name].spike_log_step[0] != 0
    for key, value in learnable.state_dict().items():
        assert other.state_dict()[key].dtype == value.dtype
        assert torch.equal(other.state_dict()[key], value), key


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("bits", range(1, 9))
def test_the_steps_of_large_tensors_are_found_in_float32_under_autocast(bits, dtype):
    # Large enough for a histogram, whose losses are a matrix product.
    generator = torch.Generator().manual_seed(bits)
    x, weight = torch.randn(256, 64, generator=generator), torch.randn(128, 64, generator=generator)
    plan = {"0": LayerPlan(weight_bits=bits, spike_bits=(bits, bits), time_steps=2, signed_input=True)}
    found = []
    for enabled in (False, True):
        layer = convert(nn.Sequential(nn.Linear(64, 128)), plan)[0]
        with torch.no_grad(), torch.autocast("cpu", dtype=dtype, enabled=enabled):
            layer.weight.copy_(weight)
            layer(x)
        found.append(layer)
    for step in ("weight_log_step", "spike_log_step"):
        assert torch.equal(*(getattr(layer, step) for layer in found)), step


@pytest.mark.parametrize("dtype", HALF)
def test_steps_of_weights_and_of_the_networks_own_input_are_the_same_under_autocast(network, batch, dtype):
    one, other = quantize(network, batch[0][:8]), quantize(network, batch[0][:8])
    one(batch[0])
    with torch.autocast("cpu", dtype=dtype):
        other(batch[0])
    for name, value in one.state_dict().items():
        found = other.state_dict()[name]
        assert found.dtype == value.dtype
        # Layers behind the first are given numbers that half precision has rounded.
        if name.endswith("spike_log_step") and not name.startswith("network.0."):
            assert found.isfinite().all(), name
        elif "bits" in name or "step" in name:
            assert torch.equal(found, value), name


@needs_compiler
@pytest.mark.filterwarnings("ignore")
def test_compiled_kernels_come_close_to_the_plain_ones(network, batch):
    network, batch = double(network, batch)
    learnable = steps_in_double(with_steps(network, batch))
    wanted = gradients(copy.deepcopy(learnable), batch)
    with compiled_quantizers():
        got = gradients(learnable, batch)
    assert_near(got, wanted, COMPILED)


@pytest.mark.filterwarnings("ignore")
def test_a_network_in_a_compiler_of_the_users_own_learns_the_same(network, batch):
    torch._dynamo.reset()
    network, batch = double(network, batch)
    learnable = steps_in_double(quantize(network, batch[0][:8]))
    other = copy.deepcopy(learnable)
    # Dynamo's tracing, which takes part in the gradients; generated code would only add a minute.
    compiled = torch.compile(learnable, backend="eager")
    # From unset steps on, over a change of bits, and with operands recomputed.
    for bits, recompute in ((4.0, False), (3.0, False), (3.0, True)):
        for one in (learnable, other):
            with torch.no_grad():
                one.layers["3"].weight_latent.fill_(bits)
                one.layers["6"].time_latent.fill_(bits - 2)
        wanted = gradients(other, batch)
        with recomputed_operands() if recompute else nullcontext():
            got = gradients(learnable, batch, compiled)
        assert_near(got, wanted, COMPILED)
    assert learnable.layer_plans == other.layer_plans
    assert learnable.layer_plans["3"].weight_bits == 3
    assert learnable.layer_plans["6"].time_steps == 1
    torch._dynamo.reset()


def test_a_network_in_double_precision(network, batch):
    learnable = quantize(network.double(), batch[0][:8].double())
    loss = F.cross_entropy(learnable(batch[0].double()), batch[1]) + learnable.penalty("4x", steps=10)
    loss.backward()
    for module in learnable.modules():
        if isinstance(module, QuantizedLayer | nn.BatchNorm2d):
            assert module.weight.grad.dtype == torch.float64
