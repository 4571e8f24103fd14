"""A small convolutional network for 8×8 images."""

from collections import OrderedDict

from torch import nn


def digits_cnn(*, input_shape: tuple[int, ...] = (1, 8, 8), classes: int = 10, width: int = 16) -> nn.Module:
    """Four 3×3 convolutions with batch norm and ReLU, global average pooling and a linear classifier.

    ``[N, C, H, W]`` images to ``[N, classes]`` logits. Channels: ``width``, then twice and four times as many; the
    second and the fourth convolution halve the image.
    """
    channels = input_shape[0]
    stages = ((width, 1), (2 * width, 2), (2 * width, 1), (4 * width, 2))
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (outputs, stride) in enumerate(stages, start=1):
        modules[f"conv{number}"] = nn.Conv2d(channels, outputs, 3, stride=stride, padding=1, bias=False)
        modules[f"norm{number}"] = nn.BatchNorm2d(outputs)
        modules[f"relu{number}"] = nn.ReLU()
        channels = outputs
    modules["pool"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    modules["classifier"] = nn.Linear(channels, classes)
    return nn.Sequential(modules)
