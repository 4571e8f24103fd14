"""VGGSNN, the network of published tables on event cameras (Deng et al. 2022, arXiv 2202.11946)."""

from spikingjelly.activation_based import layer
from torch import nn

from bitsearch.models.input_shape import FRAMES, check_input_shape, check_whole, time_first

POOLINGS = 4
"""Number of poolings; each halves the frame."""


def vggsnn(*, input_shape: tuple[int, ...] = (10, 2, 48, 48), classes: int = 10, width: int = 64) -> nn.Module:
    """Eight 3×3 convolutions with batch norm and ReLU, an average pooling after every second, a linear classifier.

    Frames of events ``[T, N, C, H, W]`` to ``[T, N, classes]``. Channels: ``width`` (64 as published) times 1, 2, then
    4, 4, then 8 four times. The first pooling comes after the second convolution.
    """
    check_input_shape("vggsnn", input_shape, FRAMES, least_side=2**POOLINGS)
    check_whole("vggsnn", width=width)
    _, channels, height, columns = input_shape
    modules: list[nn.Module] = []
    for stage in (1, 2, "pool", 4, 4, "pool", 8, 8, "pool", 8, 8, "pool"):
        if isinstance(stage, str):
            modules.append(layer.AvgPool2d(2))
            continue
        outputs = stage * width
        modules += [layer.Conv2d(channels, outputs, 3, padding=1, bias=False), layer.BatchNorm2d(outputs), nn.ReLU()]
        channels = outputs
    features = channels * (height // 2**POOLINGS) * (columns // 2**POOLINGS)
    network = nn.Sequential(*modules, layer.Flatten(), layer.Linear(features, classes))
    for module in network:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return time_first(network, input_shape)
