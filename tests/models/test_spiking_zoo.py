import itertools

import pytest
import torch
from spikingjelly.activation_based import layer
from torch import nn

from bitsearch.models import make_network


def norm(channels):
    return 2 * channels


def stage(inputs, outputs, blocks):
    """Parameters of a stage of basic blocks: 3×3 convolutions, batch norms, and a 1×1 shortcut if the width changes."""
    first = 9 * inputs * outputs + 9 * outputs**2 + 2 * norm(outputs)
    shortcut = inputs * outputs + norm(outputs) if inputs != outputs else 0
    return first + shortcut + (blocks - 1) * (18 * outputs**2 + 2 * norm(outputs))


def resnet(blocks, classes, channels=3):
    stem = 49 * channels * 64 + norm(64)
    pairs = [(64, 64), (64, 128), (128, 256), (256, 512)]
    return stem + sum(stage(*pair, count) for pair, count in zip(pairs, blocks, strict=True)) + 513 * classes


def parameters(name, shape, classes, **options):
    with torch.device("meta"):
        network = make_network(name, options, input_shape=shape, classes=classes)
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "blocks", "published"),
    # 11.7 M and 21.8 M, for the networks of He et al. 2016 as for those of Fang et al. 2021.
    [
        ("resnet18", (2, 2, 2, 2), 11.7e6),
        ("resnet34", (3, 4, 6, 3), 21.8e6),
        ("sew_resnet18", (2, 2, 2, 2), 11.7e6),
        ("sew_resnet34", (3, 4, 6, 3), 21.8e6),
    ],
)
def test_residual_networks_have_the_published_size(name, blocks, published):
    found = parameters(name, (3, 224, 224), 1000)
    # Published to a tenth of a million.
    assert found == resnet(blocks, 1000) == pytest.approx(published, abs=0.05e6)
    assert parameters(name, (10, 2, 128, 128), 11) == resnet(blocks, 11, channels=2)


@pytest.mark.parametrize(("batch_norm", "published"), [(True, 132.87e6), (False, 132.86e6)])
def test_vgg11_has_the_published_size(batch_norm, published):
    # Simonyan and Zisserman 2015, table 2: 133 M.
    widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    convolutions = sum(9 * a * b + b for a, b in itertools.pairwise(widths))
    norms = sum(norm(width) for width in widths[1:]) if batch_norm else 0
    linear = sum(a * b + b for a, b in [(512 * 49, 4096), (4096, 4096), (4096, 1000)])
    found = parameters("spiking_vgg11", (3, 224, 224), 1000, batch_norm=batch_norm)
    assert found == convolutions + norms + linear == pytest.approx(published, abs=0.005e6)


def test_a_stem_for_other_channels_is_like_the_zoos():
    torch.manual_seed(0)
    colour = make_network("sew_resnet18", {}, input_shape=(3, 64, 64), classes=10).conv1
    events = make_network("sew_resnet18", {}, input_shape=(4, 2, 64, 64), classes=10).conv1
    assert events.weight.shape == (64, 2, 7, 7)
    assert (events.stride, events.padding, events.bias) == (colour.stride, colour.padding, None)
    # Both have the variance 2 / (fan out), which does not depend on the number of input channels.
    # Of 6,272 and 9,408 weights: each deviation is known to 1/√(2n), both to 1.2%, of which this is four times as much.
    assert events.weight.std().item() == pytest.approx(colour.weight.std().item(), rel=0.05)
    assert events.step_mode == "m"


def test_every_layer_of_a_sew_network_sees_no_negative_input_but_the_first():
    torch.manual_seed(0)
    network = make_network("sew_resnet18", {}, input_shape=(3, 32, 32), classes=10)
    signs = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_pre_hook(lambda _, inputs: signs.append(bool((inputs[0] < 0).any())))
    network(torch.randn(2, 3, 32, 32))
    assert signs == [True] + [False] * 20


def test_frames_run_in_multi_step_mode():
    with torch.device("meta"):
        network = make_network("resnet18", {}, input_shape=(4, 2, 32, 32), classes=10)
    modes = {module.step_mode for module in network.modules() if isinstance(module, layer.Conv2d | layer.Linear)}
    assert modes == {"m"}
