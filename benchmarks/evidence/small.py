"""The network of the exhaustive case."""

from collections import OrderedDict

from torch import nn


def small_network(*, input_shape: tuple[int, ...] = (1, 8, 8), classes: int = 10, width: int = 8) -> nn.Module:
    """Three 3×3 convolutions with batch norm and ReLU, global average pooling and a linear classifier.

    ``[N, C, H, W]`` images to ``[N, classes]`` logits. Of its four layers the first has fixed bits; the other three
    differ in size: ``2·width`` channels at half the resolution, as many at a quarter, and the classifier.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    channels = input_shape[0]
    for number, (outputs, stride) in enumerate(((width, 1), (2 * width, 2), (2 * width, 2)), start=1):
        modules[f"conv{number}"] = nn.Conv2d(channels, outputs, 3, stride=stride, padding=1, bias=False)
        modules[f"norm{number}"] = nn.BatchNorm2d(outputs)
        modules[f"relu{number}"] = nn.ReLU()
        channels = outputs
    modules["pool"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    modules["classifier"] = nn.Linear(channels, classes)
    return nn.Sequential(modules)
