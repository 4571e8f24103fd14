"""Against torch's own transposed convolutions, in float64 that holds every sum."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from profiles import examples
from torch.nn import functional

from bitsearch.deploy.integer.packed_layer import PackedLayer
from bitsearch.deploy.integer.transposed import TransposedConvolution, spread_counts
from bitsearch.errors import InputError

NUMBERS = {"weight_bits": 8, "spike_bits": (8,), "signed": True, "decay": 0, "step_fraction": 0, "shift": 0}
MOST = 1 << 20


def layer_of(weight_shape, **geometry):
    axes = len(weight_shape) - 2
    setting = {"stride": (1,) * axes, "padding": (0,) * axes, "dilation": (1,) * axes, "output_padding": (0,) * axes}
    return PackedLayer(weight_shape=weight_shape, fraction=0, **NUMBERS | setting | geometry)


@st.composite
def layers(draw):
    """A layer, and the sizes of its input."""
    axes, groups = draw(st.integers(1, 2)), draw(st.integers(1, 3))

    def sizes(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    stride, dilation, kernel = sizes(1, 4), sizes(1, 3), sizes(1, 4)
    extra = tuple(draw(st.integers(0, max(pair) - 1)) for pair in zip(stride, dilation, strict=True))
    channels = draw(st.integers(1, 3))
    layer = layer_of(
        (groups * draw(st.integers(1, 3)), channels, *kernel),
        stride=stride,
        padding=sizes(0, 6),
        dilation=dilation,
        groups=groups,
        output_padding=extra,
    )
    return layer, (groups * channels, *sizes(1, 6))


@examples(150)
@given(layers(), st.sampled_from([torch.int16, torch.int32, torch.int64]))
def test_integer_transposed_convolutions_are_torchs(case, dtype):
    layer, shape = case
    random = torch.Generator().manual_seed(0)
    weight = torch.randint(-9, 10, layer.weight_shape, generator=random)
    x = torch.randint(-9, 10, (2, *shape), generator=random)
    # Torch has the inputs of a group first.
    native = torch.cat([part.transpose(0, 1) for part in weight.chunk(layer.groups)])
    convolve = functional.conv_transpose1d if len(shape) == 2 else functional.conv_transpose2d
    setting = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
    try:
        expected = convolve(x.double(), native.double(), None, *setting)
    except RuntimeError:
        with pytest.raises(InputError, match="up: the padding crops all of the result of an input of shape"):
            spread_counts("up", shape, layer, layer.output_padding, MOST)
        return
    assert spread_counts("up", shape, layer, layer.output_padding, MOST) == expected.shape[2:]
    result = TransposedConvolution(layer, weight.to(dtype))(x.to(dtype))
    assert result.dtype == dtype
    assert torch.equal(result.double(), expected)


def test_what_does_not_fit_is_refused_before_it_is_made():
    layer = layer_of((1, 1, 1, 1), stride=(4096, 4096))
    with pytest.raises(InputError, match="up: 16785409 currents for one input once it is spread; at most 1048576"):
        spread_counts("up", (1, 2, 2), layer, (0, 0), MOST)
    with pytest.raises(InputError, match=r"up: a kernel of 2 axes does not fit an input of shape \(1, 2\)"):
        spread_counts("up", (1, 2), layer, (0, 0), MOST)


@pytest.mark.parametrize(
    ("shape", "output_padding", "message"),
    [
        ((1, 1, 3), (3,), "output_padding is 3, with stride 2 and dilation 3; give less"),
        ((1, 1, 3), (1, 1), "output_padding has 2 numbers for a kernel of 1 axes"),
        ((1, 1), (0,), "output_padding has 1 numbers for a kernel of 0 axes"),
    ],
)
def test_a_paddings_sizes_are_checked(shape, output_padding, message):
    setting = {"stride": (2,), "padding": (0,), "dilation": (3,)}
    with pytest.raises(ValueError, match=message):
        PackedLayer(weight_shape=shape, fraction=0, output_padding=output_padding, **NUMBERS | setting)
