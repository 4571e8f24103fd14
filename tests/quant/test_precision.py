"""Half precision and compilers: what they may change, and what not."""

import pytest
import torch
from tolerances import summed

from bitsearch.quant.compilation import can_compile, compiled_quantizers
from bitsearch.quant.neuron import refined_neuron
from bitsearch.quant.renewal import renew_step
from bitsearch.quant.uniform import initial_step, quantize

needs_compiler = pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="no C++ compiler: install g++")
HALVES = [torch.bfloat16, torch.float16]
FUSED = summed(2 * 120, 20.0)
"""A compiler adds up in another order: 120 elements at two time steps, whose terms come to some 15 as LSQ scales."""
SHAPE = (6, 4, 5)


def tensors(dtype, signed, granularity="layer"):
    """(x on half precision's own grid, incoming gradient on it, steps, bits)."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(SHAPE, generator=generator) * 2).to(dtype)
    grad = torch.randn(SHAPE, generator=generator).to(dtype)
    step = torch.tensor(0.3) if granularity == "layer" else torch.linspace(0.1, 0.6, SHAPE[0]).view(-1, 1, 1)
    return x, grad, step, torch.tensor(3.0)


def run_quantize(x, grad, step, bits, signed):
    x, step, latent = (value.clone().requires_grad_() for value in (x, step, bits))
    output = quantize(x, step, bits, latent, signed=signed)
    output.backward(grad)
    return [output.detach(), x.grad, step.grad, latent.grad]


def run_neuron(x, grad, step, bits, signed):
    steps, widths = torch.stack([step, step / 2, step]), torch.stack([bits, bits - 1, bits])
    x, steps, latents, time = (value.clone().requires_grad_() for value in (x, steps, widths, bits.new_tensor(2)))
    output = refined_neuron(x, steps, widths, latents, time, time_steps=2, decay=0.75, signed=signed)
    output.backward(grad)
    return [output.detach(), x.grad, steps.grad, latents.grad, time.grad]


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    ("run", "granularity"), [(run_quantize, "layer"), (run_quantize, "channel"), (run_neuron, "layer")]
)
def test_half_precision_is_float32_rounded_once_at_the_end(run, granularity, dtype, signed):
    x, grad, step, bits = tensors(dtype, signed, granularity)
    output, dx, *learned = run(x, grad, step, bits, signed)
    wanted, wanted_dx, *wanted_learned = run(x.float(), grad.float(), step, bits, signed)
    assert output.dtype == dx.dtype == dtype
    assert torch.equal(output, wanted.to(dtype))
    assert torch.equal(dx, wanted_dx.to(dtype))
    for one, other in zip(learned, wanted_learned, strict=True):
        assert one.dtype == torch.float32
        assert other.abs().sum() > 0
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", HALVES)
def test_without_gradients_the_values_are_the_same(dtype):
    x, _, step, bits = tensors(dtype, True)
    with_gradients = quantize(x.clone().requires_grad_(), step, bits, signed=True)
    with torch.no_grad():
        without = quantize(x, step, bits, signed=True)
        spikes = refined_neuron(x, step.view(1), bits.view(1), time_steps=1, signed=True)
    assert without.dtype == spikes.dtype == dtype
    assert torch.equal(without, with_gradients)
    assert torch.equal(spikes, with_gradients)


def test_eight_bits_of_a_fine_grid_survive_half_precision():
    # bfloat16 itself holds 8 significant bits: computed in it, x/s would land on the wrong one of 255 levels.
    step = torch.tensor(0.0117)
    codes = torch.arange(256.0)
    x = (codes * step).bfloat16()
    expected = (torch.round(x.float() / step).clamp(0, 255) * step).bfloat16()
    assert torch.equal(quantize(x, step, torch.tensor(8.0), signed=False), expected)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("dtype", [*HALVES, torch.float64])
def test_steps_are_set_in_float32_whatever_the_tensor_is(dtype, per_channel, signed):
    x, _, _, bits = tensors(dtype, signed)
    for find in (renew_step, initial_step):
        step = find(x, bits, signed=signed, per_channel=per_channel)
        assert step.dtype == torch.float32
        torch.testing.assert_close(step, find(x.float(), bits, signed=signed, per_channel=per_channel))


def test_float64_stays_float64():
    x, grad, step, bits = (value.double() for value in tensors(torch.float64, True))
    assert {value.dtype for value in run_quantize(x, grad, step, bits, True)} == {torch.float64}
    assert {value.dtype for value in run_neuron(x, grad, step, bits, True)} == {torch.float64}


@pytest.mark.parametrize("dtype", HALVES)
def test_large_sums_do_not_overflow_half_precision(dtype):
    # Σ g·x̄ is above 65504, the largest float16.
    x = torch.full((1000,), 50.0, dtype=dtype, requires_grad=True)
    step, latent = torch.tensor(0.25, requires_grad=True), torch.tensor(4.0, requires_grad=True)
    output = quantize(x, step, torch.tensor(4.0), latent, signed=True)
    output.backward(torch.full_like(output, 100.0))
    assert step.grad.item() == pytest.approx(1000 * 100 * 7 / (1000 * 7) ** 0.5)
    assert latent.grad.isfinite()


def close(one, other, dtype):
    assert one.dtype == other.dtype
    # One unit in the last place of half precision, where float32 ends on different sides of a rounding boundary.
    half = {"rtol": 2 * torch.finfo(dtype).eps, "atol": 0.0}
    torch.testing.assert_close(one, other, **(half if one.dtype == dtype != torch.float32 else FUSED))


@needs_compiler
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("run", "signed"), [(run_quantize, True), (run_neuron, False)])
def test_compiled_kernels_give_what_the_plain_ones_give(run, signed):
    arguments = (*tensors(torch.bfloat16, signed), signed)
    plain = run(*arguments)
    with compiled_quantizers():
        compiled = run(*arguments)
    for one, other in zip(compiled, plain, strict=True):
        close(one, other, torch.bfloat16)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("run", [run_quantize, run_neuron])
def test_a_users_own_compiler_may_trace_the_quantizers(run, dtype):
    # Traced by Dynamo and AOTAutograd, without generated code: these are the parts that once lost the gradients.
    def output(x, step, bits, latent, steps, widths, latents, time, signed):
        if run is run_quantize:
            return quantize(x, step, bits, latent, signed=signed)
        return refined_neuron(x, steps, widths, latents, time, time_steps=2, decay=0.75, signed=signed)

    torch._dynamo.reset()
    traced = torch.compile(output, backend="aot_eager", fullgraph=True)
    for signed in (True, False):
        x, grad, step, bits = tensors(dtype, signed)
        steps, widths = torch.stack([step, step / 2, step]), torch.stack([bits, bits - 1, bits])
        x, step, latent, steps, latents, time = (
            value.clone().requires_grad_() for value in (x, step, bits, steps, widths, torch.tensor(2.0))
        )
        result = traced(x, step, bits, latent, steps, widths, latents, time, signed)
        result.backward(grad)
        learned = [step, latent] if run is run_quantize else [steps, latents, time]
        got = [result.detach(), x.grad, *(parameter.grad for parameter in learned)]
        for one, other in zip(got, run(*tensors(dtype, signed), signed), strict=True):
            close(one, other, dtype)
    torch._dynamo.reset()
