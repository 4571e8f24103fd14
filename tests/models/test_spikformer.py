import itertools

import pytest
import torch

from bitsearch.cost.geometry import measure
from bitsearch.errors import InputError
from bitsearch.models import make_network


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
