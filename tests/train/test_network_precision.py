"""A quantized network under autocast, gradient scaling and compilers."""

import copy
from contextlib import nullcontext

import pytest
import torch
from tolerances import rounding
from torch import nn
from torch.nn import functional as F

from bitsearch.allocate.learnable import quantize
from bitsearch.layers.quantized import QuantizedLayer
from bitsearch.quant.compilation import can_compile, compiled_quantizers
from bitsearch.quant.recomputation import recomputed_operands

needs_compiler = pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="no C++ compiler: install g++")
HALF = {torch.bfloat16: 0.35, torch.float16: 0.15}
"""Largest ‖difference‖ of logits and gradients, relative to the largest of their kind; twice what four networks showed.
Rounding an activation to 8 (bfloat16) or 11 significant bits takes some of them over a rounding boundary of the
quantizer, a whole step at once: far more than the dtype's own precision."""
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


def gradients(learnable, batch, run=None, dtype=None):
    """(logits, loss, gradients by name) of one step, unscaled."""
    learnable.zero_grad(set_to_none=True)
    images = batch[0].clone().requires_grad_()
    scaler = torch.amp.GradScaler("cpu", enabled=dtype == torch.float16, init_scale=2.0**12)
    optimizer = torch.optim.SGD(learnable.parameters(), lr=0.0)
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        logits = (learnable if run is None else run)(images)
        loss = F.cross_entropy(logits, batch[1]) + learnable.penalty("4x", steps=10)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    found = {name: parameter.grad for name, parameter in learnable.named_parameters()}
    assert images.grad.dtype == images.dtype
    assert all(parameter.grad.dtype == parameter.dtype for parameter in learnable.parameters())
    if dtype is not None:
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
def test_autocast_and_gradient_scaling_come_close_to_float32(network, batch, dtype):
    learnable = with_steps(network, batch)
    wanted = gradients(copy.deepcopy(learnable), batch)
    got = gradients(learnable, batch, dtype=dtype)
    assert got[0].dtype == dtype
    assert_near(got, wanted, HALF[dtype])


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
def test_steps_set_under_autocast_are_close_to_those_of_float32(network, batch, dtype):
    one, other = quantize(network, batch[0][:8]), quantize(network, batch[0][:8])
    one(batch[0])
    with torch.autocast("cpu", dtype=dtype):
        other(batch[0])
    for name, value in one.state_dict().items():
        assert other.state_dict()[name].dtype == value.dtype
        if name.endswith("log_step"):
            # Of a logarithm: the best of its candidates, which lie a twentieth of the range apart, or the next.
            torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=0.1)


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
