import itertools

import pytest
import torch
from spikingjelly.activation_based import layer
from torch import nn

from bitsearch.models import make_network
from bitsearch.models.vggsnn import vggsnn


def test_it_has_the_published_size():
    # 9.27 M for 48×48 frames and ten classes, as tables on CIFAR10-DVS give it (Deng et al. 2022 publish the code).
    widths = [2, 64, 128, 256, 256, 512, 512, 512, 512]
    convolutions = sum(9 * a * b for a, b in itertools.pairwise(widths))
    norms = 2 * sum(widths[1:])
    found = sum(parameter.numel() for parameter in vggsnn().parameters())
    assert found == convolutions + norms + (512 * 3 * 3 + 1) * 10 == pytest.approx(9.27e6, abs=0.005e6)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (34, 34), (48, 40)])
def test_the_classifier_fits_the_frame(height, width):
    network = make_network("vggsnn", {"width": 2}, input_shape=(3, 2, height, width), classes=7)
    assert network(torch.rand(3, 2, 2, height, width)).shape == (3, 2, 7)
    assert network[-1].in_features == 16 * (height // 16) * (width // 16)


def test_poolings_average_behind_every_second_convolution():
    order = "".join(
        "c" if isinstance(module, nn.Conv2d) else "p"
        for module in vggsnn(width=1)
        if isinstance(module, layer.Conv2d | layer.AvgPool2d)
    )
    assert order == "ccpccpccpccp"
