import pytest
import torch
from spikingjelly.activation_based import layer as spiking
from torch import nn

from bitsearch.cost.layer_shape import LayerShape, shape_of_layer
from bitsearch.cost.tracing import trace

LAYERS = [
    (nn.Linear(6, 4), (6,)),
    (nn.Conv1d(2, 4, 3), (2, 12)),
    (nn.Conv2d(2, 4, 3), (2, 12, 12)),
    (nn.Conv2d(2, 4, (5, 2), stride=(2, 1)), (2, 12, 12)),
    (nn.Conv2d(4, 8, 3, groups=2), (4, 12, 12)),
    (nn.Conv2d(4, 8, 3, groups=4), (4, 12, 12)),
    (nn.Conv2d(2, 3, 3, dilation=2), (2, 12, 12)),
    (nn.Conv3d(1, 2, 3), (1, 7, 7, 7)),
    (nn.ConvTranspose2d(2, 4, 3), (2, 12, 12)),
    (nn.ConvTranspose2d(2, 4, 4, stride=2), (2, 12, 12)),
    (nn.ConvTranspose1d(2, 4, 5, stride=3), (2, 12)),
]


def dependences(layer, shape):
    """(most inputs of an output, most outputs of an input), by the layer's Jacobian, with no weight zero."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(1.0)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x[None])[0], torch.rand(shape))
    rows = jacobian.reshape(-1, torch.Size(shape).numel()) != 0
    return int(rows.sum(1).max()), int(rows.sum(0).max())


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_fan_in_and_fan_out_are_the_most_that_depend_on_each_other(layer, shape):
    recorded = shape_of_layer(layer, (1, *shape))
    assert (recorded.fan_in, recorded.fan_out) == dependences(layer, shape)


def test_kinds_sizes_and_channels_are_recorded():
    assert shape_of_layer(nn.Linear(6, 4), (5, 6)) == LayerShape("linear", 6, 4)
    assert shape_of_layer(nn.Conv2d(3, 4, (5, 3), stride=2), (7, 3, 9, 11)) == LayerShape(
        "convolution", 3, 4, 1, (5, 3), (2, 2), (9, 11)
    )
    assert shape_of_layer(nn.Conv2d(3, 6, 3, groups=3), (1, 3, 9, 9)).kind == "depthwise"
    assert shape_of_layer(nn.Conv2d(1, 6, 3), (1, 1, 9, 9)).kind == "convolution"
    assert shape_of_layer(nn.ConvTranspose2d(1, 6, 3), (1, 1, 9, 9)).kind == "transposed"
    assert shape_of_layer(nn.Bilinear(2, 3, 4), (1, 2)) is None


def test_a_traced_network_has_the_shapes_of_its_layers():
    network = nn.Sequential(spiking.Conv2d(1, 2, 3, step_mode="m"), nn.Flatten(2), spiking.Linear(72, 5, step_mode="m"))
    conv, linear = trace(network, torch.rand(4, 2, 1, 8, 8), time_axis=True)
    assert conv.shape == LayerShape("convolution", 1, 2, 1, (3, 3), (1, 1), (8, 8))
    assert linear.shape == LayerShape("linear", 72, 5)
