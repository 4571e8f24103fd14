import pytest
import torch
from torch import nn

from bitsearch.errors import InputError
from bitsearch.models.small_cnn import small_cnn


@pytest.mark.parametrize(("shape", "classes", "width", "depth"), [((1, 28, 28), 10, 4, 3), ((3, 9, 21), 7, 2, 2)])
def test_each_block_doubles_the_channels_and_halves_the_image(shape, classes, width, depth):
    network = small_cnn(input_shape=shape, classes=classes, width=width, depth=depth)
    assert network(torch.rand(2, *shape)).shape == (2, classes)
    layers = [module for module in network if isinstance(module, nn.Conv2d | nn.Linear)]
    widths = [width * 2**number for number in range(depth)]
    assert [layer.out_channels for layer in layers[:-1]] == widths
    height, breadth = (side // 2**depth for side in shape[1:])
    assert layers[-1].in_features == widths[-1] * height * breadth


def test_images_that_pooling_leaves_nothing_of_are_refused():
    with pytest.raises(InputError, match=r"H and W at least 16; given: \(1, 28, 15\)"):
        small_cnn(input_shape=(1, 28, 15), depth=4)
    with pytest.raises(InputError, match="depth is 0; give a whole number"):
        small_cnn(depth=0)
