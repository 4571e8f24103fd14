"""Against torch's own convolutions, in float64 that holds every sum."""

import pytest
import torch
from torch.nn import functional

from bitsearch.deploy.integer import convolution
from bitsearch.deploy.integer.convolution import Convolution
from bitsearch.deploy.integer.packed_layer import PackedLayer

GEOMETRIES = [
    {"weight_shape": (5, 3, 3, 3), "padding": (1, 1)},
    {"weight_shape": (5, 3, 3, 2), "stride": (2, 3), "padding": (0, 2), "dilation": (2, 1)},
    {"weight_shape": (6, 1, 3, 3), "groups": 3, "padding": (2, 1), "dilation": (1, 3)},
    {"weight_shape": (4, 3, 1, 1), "stride": (2, 1)},
    {"weight_shape": (5, 3, 4), "stride": (2,), "padding": (3,), "dilation": (2,)},
    {"weight_shape": (3, 1, 2), "groups": 3},
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("at_once", [1, 200, 1 << 18])
@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
def test_integer_convolutions_are_torchs(geometry, at_once, dtype, monkeypatch):
    # One window's row at a time, some rows of a sample, several samples.
    monkeypatch.setattr(convolution, "_AT_ONCE", at_once)
    axes = len(geometry["weight_shape"]) - 2
    setting = {"stride": (1,) * axes, "padding": (0,) * axes, "dilation": (1,) * axes} | geometry
    layer = PackedLayer(
        **setting, weight_bits=8, spike_bits=(8,), signed=True, decay=0, step_fraction=0, shift=0, fraction=0
    )
    random = torch.Generator().manual_seed(0)
    largest = 17 if dtype == torch.int16 else 127
    weight = torch.randint(-largest, largest + 1, layer.weight_shape, generator=random).to(dtype)
    x = torch.randint(-largest, largest + 1, (4, 3, *(9, 7)[:axes]), generator=random).to(dtype)
    convolve = functional.conv1d if axes == 1 else functional.conv2d
    expected = convolve(x.double(), weight.double(), None, layer.stride, layer.padding, layer.dilation, layer.groups)
    result = Convolution(layer, weight)(x)
    assert result.dtype == dtype
    assert torch.equal(result.double(), expected)


def test_sums_that_fit_are_right_though_they_overflow_on_the_way():
    layer = PackedLayer(
        weight_shape=(1, 4, 1, 1),
        weight_bits=8,
        spike_bits=(8,),
        signed=True,
        decay=0,
        step_fraction=0,
        shift=0,
        fraction=0,
        stride=(1, 1),
        padding=(0, 0),
        dilation=(1, 1),
    )
    weight = torch.tensor([127, 127, -127, -127], dtype=torch.int16).view(layer.weight_shape)
    x = torch.tensor([255, 255, 255, 254], dtype=torch.int16).view(1, 4, 1, 1)
    assert Convolution(layer, weight)(x).item() == 127
