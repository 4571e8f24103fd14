import itertools

import pytest
import torch

import bitsearch
from bitsearch.cost import CostModel, trace
from bitsearch.cost.measurement import measure
from bitsearch.errors import InputError
from bitsearch.models import make_network
from bitsearch.plan import UniformBits

pytestmark = pytest.mark.filterwarnings("ignore:kept at 32 bits")


def make(shape=(3, 32, 32), classes=10, **options):
    return make_network("spikformer_cifar", options, input_shape=shape, classes=classes)


def test_it_has_the_published_size():
    # Zhou et al. 2023: 9.32 M for Spikformer-4-384, which has biases in front of batch norm as well.
    widths = [3, 48, 96, 192, 384, 384]
    stem = sum(9 * a * b + 2 * b for a, b in itertools.pairwise(widths))
    attention = 4 * (384 * 384 + 2 * 384)
    mlp = 2 * 4 * 384 * 384 + 2 * (4 * 384) + 2 * 384
    found = sum(parameter.numel() for parameter in make().parameters())
    assert found == stem + 4 * (attention + mlp) + 385 * 10 == pytest.approx(9.32e6, abs=0.01e6)


def test_images_are_run_once():
    network = make((3, 8, 8), width=16, depth=1, heads=2)
    assert network(torch.rand(5, 3, 8, 8)).shape == (5, 10)
    layers = {layer.name: layer for layer in measure(network, torch.randn(5, 3, 8, 8))}
    # 8×8 pixels, 27 weights for each of the 2 = 16 / 8 channels of the first convolution.
    assert next(iter(layers.values())).macs == 64 * 27 * 2
    # 4 tokens: queries, keys and values together are three maps of 16 × 16.
    assert layers["spikformer.blocks.0.attn.qkv_conv_bn.0"].macs == 4 * 3 * 16 * 16
    # Keys times values, then that times queries, for 2 heads of 8 channels.
    assert layers["spikformer.blocks.0.attn"].macs == 2 * 2 * 4 * 8 * 8
    assert [name for name, layer in layers.items() if layer.signed_input] == [next(iter(layers))]


@pytest.mark.parametrize(("width", "heads"), [(20, 2), (24, 5)])
def test_a_width_that_cannot_be_divided_is_refused(width, heads):
    with pytest.raises(InputError, match=f"width is {width}; give a multiple of 8 and of its {heads} heads"):
        make(width=width, heads=heads)


def test_its_heads_and_depth_are_options():
    network = make((4, 2, 16, 16), width=32, depth=3, heads=4).spikformer
    assert len(network.blocks) == 3
    assert network.blocks[0].attn.num_heads == 4


def attention_costs(**options):
    """(bits of one factor times bits of the other, summed over a block's two products; what stays)."""
    network = make((3, 8, 8), width=16, depth=1, heads=2, **options)
    model = CostModel(trace(network, torch.rand(5, 3, 8, 8)))
    plan = model.uniform(UniformBits(weight_bits=8, spike_bits=4, time_steps=2), None)
    # Two heads of 8 channels and 4 tokens: values times keys, then the sums of these times queries.
    each = 2 * 8 * 8 * 4
    return model.layer_costs("s_ace", plan)["spikformer.blocks.0.attn"] / each, dict(model.staying)


def test_products_of_spikes_count_at_their_bits():
    assert attention_costs() == (32 * 32 + 32 * 32, {})
    cost, staying = attention_costs(attention="spikes")
    assert cost == 1 * 1 + 32 * 1
    assert list(staying) == ["spikformer.blocks.0.attn.qkv_lif"]


def test_attention_of_spikes_is_trained_and_kept():
    network = make((3, 8, 8), width=16, depth=1, heads=2, attention="spikes")
    x = torch.rand(6, 3, 8, 8)
    quantized = bitsearch.quantize(network, x)
    quantized.train()(x).square().mean().backward()
    assert quantized.network.spikformer.blocks[0].attn.qkv_conv_bn[0].weight.grad.abs().sum() > 0
    sent = []
    quantized.network.spikformer.blocks[0].attn.qkv_lif.register_forward_hook(lambda *args: sent.append(args[-1]))
    quantized.eval()(x)
    assert set(sent[0].unique().tolist()) <= {0.0, 1.0}


def test_another_attention_is_refused():
    with pytest.raises(InputError, match="attention is 'soft'; give 'relu' or 'spikes'"):
        make(attention="soft")
