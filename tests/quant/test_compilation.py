from itertools import product

import pytest
import torch
from tolerances import chained, summed

from bitsearch.quant.compilation import can_compile, compilable, compiled_quantizers
from bitsearch.quant.membrane_width import membrane_width
from bitsearch.quant.neuron import refined_neuron
from bitsearch.quant.uniform import quantize

needs_compiler = pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="no C++ compiler: install g++")
# Inductor's own imports warn.
pytestmark = pytest.mark.filterwarnings("ignore")


def results(shape, dtype):
    """Output and every gradient of a neuron with two steps and of per-channel weights: by element, and summed."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(dtype).relu().requires_grad_()
    weight = torch.randn(shape, generator=generator).to(dtype).requires_grad_()
    steps = torch.full((3,), 0.3, dtype=dtype).requires_grad_()
    step = torch.full((shape[0], *[1] * (len(shape) - 1)), 0.2, dtype=dtype).requires_grad_()
    bits = torch.tensor([2.0, 3.0, 1.0], dtype=dtype)
    latents = bits.clone().requires_grad_()
    time, latent = bits[0].clone().requires_grad_(), bits[1].clone().requires_grad_()
    spikes = refined_neuron(x, steps, bits, latents, time, time_steps=2)
    quantized = quantize(weight, step, bits[1], latent, signed=True)
    frames = torch.randn(3, *shape, generator=generator).to(dtype).relu().requires_grad_()
    fired = refined_neuron(frames, steps, bits, latents, time_steps=3, decay=0.5, framed=True)
    (spikes * quantized + fired.mean(0)).sum().backward()
    elements = [spikes, quantized, fired, frames.grad, x.grad, weight.grad]
    return elements, [parameter.grad for parameter in (steps, step, latents, time, latent)]


@needs_compiler
def test_compiled_kernels_give_what_the_plain_ones_give_for_any_shape():
    for dtype, shape in product((torch.float32, torch.float64), ((8, 3, 5, 5), (4, 6, 3, 3))):
        plain, plain_sums = results(shape, dtype)
        with compiled_quantizers():
            compiled, compiled_sums = results(shape, dtype)
        for one, other in zip(plain, compiled, strict=True):
            torch.testing.assert_close(one, other, **chained(8, dtype))
        # Over three frames of 600 elements, each of a few hundredths up to a few units.
        for one, other in zip(plain_sums, compiled_sums, strict=True):
            torch.testing.assert_close(one, other, **summed(1800, 1000.0, dtype))


@needs_compiler
def test_compiled_kernels_of_membranes_of_a_width():
    x = torch.randint(0, 600, (40,), generator=torch.Generator().manual_seed(0)) / 64
    width, bits = membrane_width(12, (3, 3), signed=False), torch.tensor([3.0, 3.0])

    def neuron():
        current, steps = x.clone().requires_grad_(), torch.full((2,), 0.5, requires_grad=True)
        spikes = refined_neuron(current, steps, bits, time_steps=2, decay=0.75, width=width)
        spikes.square().sum().backward()
        return spikes, current.grad, steps.grad

    plain = neuron()
    with compiled_quantizers():
        compiled = neuron()
    assert torch.equal(compiled[0], plain[0])
    for one, other in zip(plain[1:], compiled[1:], strict=True):
        torch.testing.assert_close(one, other, **summed(40, 100.0, torch.float32))


def test_kernels_are_compiled_inside_the_block_only_and_never_for_evaluation(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda kernel, dynamic: compiled.append(kernel) or kernel)

    @compilable
    def kernel(x):
        return x + 1

    assert kernel(1) == 2
    assert compiled == []
    with compiled_quantizers(), compiled_quantizers():
        assert kernel(1) == 2
    assert len(compiled) == 1
    kernel(2)
    with compiled_quantizers(), torch.no_grad():
        quantize(torch.ones(2), torch.tensor(0.5), torch.tensor(2.0), signed=True)
    assert len(compiled) == 1
