import pytest
import torch

from bitsearch.quant.compilation import can_compile, compilable, compiled_quantizers
from bitsearch.quant.neuron import refined_neuron
from bitsearch.quant.uniform import quantize

needs_compiler = pytest.mark.skipif(not can_compile(torch.device("cpu")), reason="no C++ compiler: install g++")
# Inductor's own imports warn.
pytestmark = pytest.mark.filterwarnings("ignore")


def results(shape):
    """Output and every gradient of a neuron with two steps and of per-channel weights."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).relu().requires_grad_()
    weight = torch.randn(shape, generator=generator).requires_grad_()
    steps = torch.full((3,), 0.3).requires_grad_()
    step = torch.full((shape[0], *[1] * (len(shape) - 1)), 0.2).requires_grad_()
    bits = torch.tensor([2.0, 3.0, 1.0])
    latents = torch.tensor([2.0, 3.0, 1.0]).requires_grad_()
    time, latent = torch.tensor(2.0).requires_grad_(), torch.tensor(3.0).requires_grad_()
    spikes = refined_neuron(x, steps, bits, latents, time, time_steps=2)
    quantized = quantize(weight, step, torch.tensor(3.0), latent, signed=True)
    frames = torch.randn(3, *shape, generator=generator).relu().requires_grad_()
    fired = refined_neuron(frames, steps, bits, latents, time_steps=3, decay=0.5, framed=True)
    (spikes * quantized + fired.mean(0)).sum().backward()
    return [spikes, quantized, fired, frames.grad, *(p.grad for p in (x, weight, steps, step, latents, time, latent))]


@needs_compiler
def test_compiled_kernels_give_what_the_plain_ones_give_for_any_shape():
    for shape in ((8, 3, 5, 5), (4, 6, 3, 3)):
        plain = results(shape)
        with compiled_quantizers():
            compiled = results(shape)
        for one, other in zip(plain, compiled, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


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
