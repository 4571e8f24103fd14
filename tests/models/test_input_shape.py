import pytest
from spikingjelly.activation_based import layer
from torch import nn

from bitsearch.errors import InputError
from bitsearch.models.input_shape import FEATURES, FRAMES, IMAGE, check_input_shape, check_whole, layers_for, time_first


def test_shapes_with_the_axes_of_one_form_pass():
    check_input_shape("net", (3, 32, 32), IMAGE, FRAMES)
    check_input_shape("net", (10, 2, 32, 32), IMAGE, FRAMES, least_side=32)
    check_input_shape("net", (1, 1, 1, 1), FRAMES)
    check_input_shape("net", (50, 700), FEATURES)


def test_the_message_says_what_was_given_and_what_is_allowed():
    with pytest.raises(InputError) as caught:
        check_input_shape("net", (3, 32, 15), IMAGE, FRAMES, least_side=16)
    assert str(caught.value) == (
        "network 'net' takes inputs of shape (C, H, W) or (T, C, H, W), H and W at least 16; given: (3, 32, 15); "
        "choose data that have it, or another network"
    )


def test_only_the_sides_have_a_least_size():
    check_input_shape("net", (1, 1, 16, 16), FRAMES, least_side=16)
    with pytest.raises(InputError):
        check_input_shape("net", (1, 1, 15, 16), FRAMES, least_side=16)
    with pytest.raises(InputError):
        check_input_shape("net", (0, 1, 16, 16), FRAMES, least_side=16)


def test_whole_numbers():
    check_whole("net", width=1, depth=20)
    with pytest.raises(InputError, match=r"network 'net': depth is 0; give a whole number of at least 1"):
        check_whole("net", width=1, depth=0)


def test_images_take_torchs_layers_and_frames_spikingjellys():
    assert layers_for((3, 8, 8)) is nn
    assert layers_for((4, 3, 8, 8)) is layer


@pytest.mark.parametrize(("shape", "mode"), [((3, 8, 8), "s"), ((4, 3, 8, 8), "m"), ((4, 700), "m")])
def test_the_step_mode_follows_the_time_axis(shape, mode):
    network = nn.Sequential(layer.Linear(4, 4), nn.Sequential(layer.Flatten()))
    assert time_first(network, shape) is network
    assert network[0].step_mode == network[1][0].step_mode == mode
