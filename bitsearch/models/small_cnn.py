"""A small convolutional network for grey images of about 28×28 pixels, with largest pooling."""

from collections import OrderedDict

from torch import nn

from bitsearch.models.input_shape import IMAGE, check_input_shape, check_whole


def small_cnn(
    *, input_shape: tuple[int, ...] = (1, 28, 28), classes: int = 10, width: int = 16, depth: int = 3
) -> nn.Module:
    """``depth`` blocks of a 3×3 convolution, batch norm, ReLU and 2×2 largest pooling, and a linear classifier.

    ``[N, C, H, W]`` images to ``[N, classes]`` logits. The first convolution has ``width`` channels, each next one
    twice as many; each pooling halves the image, rounded down, so that sides are at least 2 to the power of ``depth``.
    """
    check_whole("small_cnn", width=width, depth=depth)
    check_input_shape("small_cnn", input_shape, IMAGE, least_side=2**depth)
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    channels, height, breadth = input_shape
    for number in range(1, depth + 1):
        outputs = width * 2 ** (number - 1)
        modules[f"conv{number}"] = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
        modules[f"norm{number}"] = nn.BatchNorm2d(outputs)
        modules[f"relu{number}"] = nn.ReLU()
        modules[f"pool{number}"] = nn.MaxPool2d(2)
        channels, height, breadth = outputs, height // 2, breadth // 2
    modules["flatten"] = nn.Flatten()
    modules["classifier"] = nn.Linear(channels * height * breadth, classes)
    return nn.Sequential(modules)
