"""Counts against counters and totals that nobody here wrote.

- Multiply-accumulates against ``torch.utils.flop_counter`` (two operations each) and spikingjelly's ``MACCounter``.
  The latter also counts batch norms, which are left out here, and takes products of binary spikes for accumulates: a
  smooth activation in place of every neuron makes them multiply-accumulates again.
- Synaptic operations against spikingjelly's ``SynOpCounter``, which counts every connection that a spike goes through.
- Published totals of multiply-accumulates and weights.
"""

import pytest
import torch
import torchvision
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based import layer as spiking
from spikingjelly.activation_based.model import sew_resnet, spikformer, spiking_resnet, spiking_vgg
from spikingjelly.activation_based.op_counter import DispatchCounterMode, MACCounter, SynOpCounter
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bitsearch.cost.measurement import measure
from bitsearch.cost.tracing import trace
from bitsearch.layers import convert
from bitsearch.models.resnet_cifar import resnet18_cifar, resnet20
from bitsearch.plan import LayerPlan
from bitsearch.quant.recurrence import membrane_steps


def multi_step(network):
    functional.set_step_mode(network, "m")
    return network


def small_spikformer():
    return spikformer.Spikformer(
        T=2, img_size_h=32, img_size_w=32, patch_size=4, num_classes=10, embed_dims=64, num_heads=4, depths=2
    )


def sew(make):
    return make(spiking_neuron=neuron.IFNode, cnf="ADD")


# Network, shape of its input, and how many inputs and time steps that holds.
ZOO = {
    "ResNet-18": (torchvision.models.resnet18, (2, 3, 64, 64), 2),
    "ResNet-20": (resnet20, (2, 3, 32, 32), 2),
    "ResNet-18 for CIFAR": (lambda: resnet18_cifar(width=16), (2, 3, 32, 32), 2),
    "spiking ResNet-18": (lambda: spiking_resnet.spiking_resnet18(spiking_neuron=neuron.IFNode), (2, 3, 32, 32), 2),
    "SEW-ResNet-18": (lambda: sew(sew_resnet.sew_resnet18), (2, 3, 32, 32), 2),
    "SEW-ResNet-18, multi-step": (lambda: multi_step(sew(sew_resnet.sew_resnet18)), (3, 2, 3, 32, 32), 6),
    "SEW-ResNet-34": (lambda: sew(sew_resnet.sew_resnet34), (1, 3, 32, 32), 1),
    "spiking VGG-11": (
        lambda: spiking_vgg.spiking_vgg11(spiking_neuron=neuron.IFNode, num_classes=10, init_weights=False),
        (2, 3, 32, 32),
        2,
    ),
    "Spikformer": (small_spikformer, (3, 3, 32, 32), 2 * 3),
}


def smooth(network):
    """``network`` with a sigmoid in place of every spiking neuron."""
    for name, module in list(network.named_modules()):
        if isinstance(module, neuron.BaseNode):
            network.set_submodule(name, nn.Sigmoid())
    return network


@pytest.mark.parametrize("name", ZOO)
def test_multiply_accumulates_equal_both_counters(name):
    make, shape, samples = ZOO[name]
    network, x = smooth(make().eval()), torch.rand(shape) + 0.1
    spikingjelly_macs = MACCounter(extra_ignore_modules=[nn.modules.batchnorm._BatchNorm])
    with torch.no_grad(), FlopCounterMode(display=False) as flops, DispatchCounterMode([spikingjelly_macs]):
        network(x)
    ours = sum(layer.macs for layer in measure(network, x)) * samples
    assert ours == flops.get_total_flops() / 2
    assert ours == spikingjelly_macs.get_total()


@pytest.mark.parametrize("name", ["spiking ResNet-18", "SEW-ResNet-18, multi-step", "Spikformer"])
def test_spikes_do_not_change_the_count(name):
    make, shape, _ = ZOO[name]
    network, x = make(), torch.rand(shape)
    spikes = [layer.macs for layer in measure(network, x)]
    functional.reset_net(network)
    assert spikes == [layer.macs for layer in measure(smooth(network), x)]


def test_attention_between_the_layers_is_found():
    layers = measure(small_spikformer(), torch.rand(3, 3, 32, 32))
    products = {layer.name: layer.macs for layer in layers if layer.fixed_reason == "matrix products outside of layers"}
    # v·kᵀ and (v·kᵀ)·q over 8×8 tokens: 4 heads of 16 channels.
    assert products == {f"blocks.{block}.attn": 2 * 4 * 16 * 16 * 64 for block in range(2)}


@pytest.mark.parametrize(
    ("make", "size", "giga_macs", "million_weights"),
    [
        (lambda: resnet20(width=128), 32, 2.584, 17.27),
        (resnet18_cifar, 32, 0.554, 11.16),
        (torchvision.models.resnet18, 224, 1.696, 11.67),
        (lambda: sew(sew_resnet.sew_resnet34), 224, 3.546, 21.77),
    ],
    ids=["ResNet-20 of width 128", "ResNet-18 for CIFAR", "ResNet-18", "SEW-ResNet-34"],
)
def test_published_totals(make, size, giga_macs, million_weights):
    # The first convolution is left out, as published; 1×1 shortcuts and the classifier are counted.
    layers = [layer for layer in measure(make(), torch.rand(1, 3, size, size)) if not layer.first]
    assert round(sum(layer.macs for layer in layers) / 1e9, 3) == giga_macs
    assert round(sum(layer.weights for layer in layers) / 1e6, 2) == million_weights


QUANTIZABLE = {
    "linear": (nn.Linear(12, 5), (3, 12)),
    "tokens": (nn.Linear(12, 5), (3, 4, 12)),
    "1-D": (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (3, 4, 9)),
    "2-D": (nn.Conv2d(3, 4, (3, 2), padding=(2, 1), dilation=(2, 1)), (3, 3, 6, 7)),
    "depthwise": (nn.Conv2d(3, 6, 3, padding="same", groups=3), (3, 3, 6, 7)),
    "reflected": (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (3, 3, 6, 7)),
    "3-D": (nn.Conv3d(2, 3, 2, stride=(1, 2, 2), padding=1), (3, 2, 4, 4, 5)),
}


def quantized(name, *, spike_bits, signed=False):
    """A quantized layer whose steps are set, its plain layer, and the integer spikes of its input, ``[T, N, ...]``."""
    plain, shape = QUANTIZABLE[name]
    steps = 3
    plan = LayerPlan(weight_bits=4, spike_bits=(spike_bits,) * steps, time_steps=steps, signed_input=signed)
    layer = convert(nn.Sequential(plain), {"0": plan})[0]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    layer(x)
    recurrence = membrane_steps(
        x, layer.spike_step, layer.spike_bits, time_steps=steps, decay=layer.decay, signed=signed
    )
    with torch.no_grad():
        return layer, plain, x, torch.stack([levels.codes for levels, _ in recurrence])


def synops(plain, spikes):
    """SynOpCounter's count for a plain layer that gets ``[T, N, ...]`` binary spikes, a step at a time."""
    counter = SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([counter]):
        for step in spikes:
            plain(step)
    return counter.get_total()


@pytest.mark.parametrize("name", QUANTIZABLE)
def test_synaptic_operations_of_one_bit_spikes(name):
    layer, plain, x, spikes = quantized(name, spike_bits=1)
    assert 0 < spikes.mean() < 1
    assert layer.count_synops(x) == layer.count_synops(x, unrolled=True) == synops(plain, spikes)


@pytest.mark.parametrize("name", QUANTIZABLE)
def test_synaptic_operations_of_multi_bit_spikes(name):
    layer, plain, x, spikes = quantized(name, spike_bits=3)
    assert spikes.max() > 1
    unroll = spiking.SpikeCountToBinary(num_slots=7, always_convert=True)
    assert layer.count_synops(x, unrolled=True) == synops(plain, unroll(spikes))
    assert layer.count_synops(x) == synops(plain, (spikes != 0).float())


def test_synaptic_operations_of_signed_spikes():
    layer, plain, x, spikes = quantized("2-D", spike_bits=3, signed=True)
    assert spikes.min() < 0
    assert layer.count_synops(x) == synops(plain, (spikes != 0).float())
    unroll = spiking.SpikeCountToBinary(num_slots=4, always_convert=True)
    assert layer.count_synops(x, unrolled=True) == synops(plain, unroll(spikes.abs()))


@pytest.mark.parametrize("name", ["linear", "tokens"])
def test_without_edges_synaptic_operations_are_firing_rate_times_macs(name):
    layer, plain, x, _ = quantized(name, spike_bits=2)
    nonzero, total = layer.count_spikes(x)
    (geometry,) = trace(plain, x)
    assert layer.count_synops(x) == pytest.approx(nonzero / total * geometry.macs * 3 * len(x))


def test_with_edges_synaptic_operations_are_fewer():
    layer, plain, x, _ = quantized("3-D", spike_bits=1)
    nonzero, total = layer.count_spikes(x)
    (geometry,) = trace(plain, x)
    assert layer.count_synops(x) * total < nonzero * geometry.macs * 3 * len(x)
