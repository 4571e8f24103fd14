"""What an AKD1000 does not run of the layers that there are, by layer and reason."""

import pytest
import torch
from akida_networks import SHAPES, inputs_for, packed_network, trained
from torch import nn

from bitsearch.deploy.formats.akida.chip import chip_network
from bitsearch.errors import InputError


def image(*behind, kernel=3, stride=1, size=8):
    return nn.Sequential(nn.Conv2d(1, 4, kernel, stride, padding=kernel // 2), nn.ReLU(), *behind), size


LAST = (nn.ReLU(), nn.Conv2d(4, 2, 1))
REFUSED = {
    "alone": ((nn.Sequential(nn.Conv2d(1, 4, 3)), 8), "'0': a convolution over images has activations"),
    "small": (image(nn.Conv2d(4, 2, 3, padding=1), size=4), "'0': images have 5 pixels .* own 4×4"),
    "kernel": (image(nn.Conv2d(4, 4, 9, padding=4), *LAST), "'2': kernels have 1, 3, 5 or 7"),
    "stride": (image(nn.Conv2d(4, 4, 5, 2, padding=2), *LAST), "'2': strides are 1, or 2 .* it has 2 with 5×5"),
    "pool": (image(nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(4), *LAST), "'2': max pooling .* 4×4, 4 apart"),
    "overlap": (image(nn.MaxPool2d(2, 1), *LAST[1:]), "'0': .* padded otherwise"),
    "flat": (
        image(nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)),
        "'2': max pooling behind another convolution .* needs a convolution to follow",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_chip_does_not_run_is_refused_with_layer_and_reason(case, tmp_path):
    (network, size), reason = REFUSED[case]
    x = torch.randn(6, 1, size, size, generator=torch.Generator().manual_seed(0))
    packed, _ = packed_network(network, x, tmp_path)
    with pytest.raises(InputError, match=f"^Akida's first generation has no layer for {reason}"):
        chip_network(packed)


@pytest.mark.parametrize("make", SHAPES)
def test_what_it_runs_is_left_as_it_is(make, tmp_path):
    x = inputs_for(make)
    packed, _ = packed_network(trained(make), x, tmp_path)
    assert [layer.operation for layer in chip_network(packed).layers] == [run.name for _, run in packed.program.runs()]
