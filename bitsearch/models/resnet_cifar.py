"""Residual networks with a 3×3 stem, for small images and frames (He et al. 2016; Zheng et al. 2021 for ResNet-19).

The float networks that published tables on CIFAR and on CIFAR10-DVS start from. All take images ``[N, C, H, W]`` to
``[N, classes]``, or frames of events ``[T, N, C, H, W]`` to ``[T, N, classes]``.
"""

from typing import Any

from torch import Tensor, nn

from bitsearch.models.input_shape import FRAMES, IMAGE, check_input_shape, check_whole, layers_for, time_first


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch norm, added to a shortcut, then ReLU: ``[N, C, H, W]`` to ``[N, C', H', W']``."""

    def __init__(self, layers: Any, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = layers.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = layers.BatchNorm2d(outputs)
        self.conv2 = layers.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = layers.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.relu2 = nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            conv = layers.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(conv, layers.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        hidden = self.relu1(self.norm1(self.conv1(x)))
        output: Tensor = self.relu2(self.norm2(self.conv2(hidden)) + self.shortcut(x))
        return output


class ResNet(nn.Module):
    """A 3×3 stem, stages of basic blocks that halve the image, global average pooling, a linear classifier.

    Args:
        layers: ``torch.nn``, or spikingjelly's ``layer`` for frames of events.
        channels: of the input.
        classes: of the output.
        widths: channels of each stage; the stem has those of the first.
        blocks: number of each stage.
        hidden: features of a linear layer with ReLU before the classifier; None for no such layer.
    """

    def __init__(
        self,
        layers: Any,
        channels: int,
        classes: int,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        self.stem = layers.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.norm = layers.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        stages, inputs = [], widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                stages.append(BasicBlock(layers, inputs, width, stride=2 if block == 0 and stage > 0 else 1))
                inputs = width
        self.blocks = nn.Sequential(*stages)
        self.pool = layers.AdaptiveAvgPool2d(1)
        self.flatten = layers.Flatten()
        self.hidden = nn.Sequential()
        if hidden is not None:
            self.hidden = nn.Sequential(layers.Linear(inputs, hidden), nn.ReLU())
        self.classifier = layers.Linear(hidden or inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` images to ``[N, classes]`` logits; the same with T in front for frames."""
        x = self.blocks(self.relu(self.norm(self.stem(x))))
        logits: Tensor = self.classifier(self.hidden(self.flatten(self.pool(x))))
        return logits


def resnet20(*, input_shape: tuple[int, ...] = (3, 32, 32), classes: int = 10, width: int = 16) -> nn.Module:
    """ResNet-20: three stages of three blocks with ``width``, 2·``width`` and 4·``width`` channels."""
    return _resnet("resnet20", input_shape, classes, width, (1, 2, 4), (3, 3, 3))


def resnet18_cifar(*, input_shape: tuple[int, ...] = (3, 32, 32), classes: int = 10, width: int = 64) -> nn.Module:
    """ResNet-18 with a 3×3 stem: four stages of two blocks with 1, 2, 4 and 8 times ``width`` channels."""
    return _resnet("resnet18_cifar", input_shape, classes, width, (1, 2, 4, 8), (2, 2, 2, 2))


def resnet19_dvs(*, input_shape: tuple[int, ...] = (10, 2, 48, 48), classes: int = 10, width: int = 128) -> nn.Module:
    """ResNet-19 of spiking networks: three, three and two blocks with 1, 2 and 4 times ``width`` channels.

    A linear layer with 2·``width`` features stands before the classifier (Zheng et al. 2021, arXiv 2011.05280).
    """
    return _resnet("resnet19_dvs", input_shape, classes, width, (1, 2, 4), (3, 3, 2), hidden=2)


def _resnet(
    name: str,
    input_shape: tuple[int, ...],
    classes: int,
    width: int,
    width_factors: tuple[int, ...],
    blocks: tuple[int, ...],
    hidden: int = 0,
) -> nn.Module:
    """The network whose stages have ``width_factors`` times ``width`` channels, its hidden layer ``hidden`` times."""
    check_input_shape(name, input_shape, IMAGE, FRAMES)
    check_whole(name, width=width)
    widths = tuple(factor * width for factor in width_factors)
    network = ResNet(
        layers_for(input_shape), input_shape[-3], classes, widths, blocks, hidden * width if hidden else None
    )
    return time_first(network, input_shape)
