"""Residual networks for 32×32 images (He et al. 2016), the float networks that published tables on CIFAR start from."""

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch norm, added to a shortcut, then ReLU: ``[N, C, H, W]`` to ``[N, C', H', W']``."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.relu2 = nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        y = self.relu1(self.norm1(self.conv1(x)))
        out: Tensor = self.relu2(self.norm2(self.conv2(y)) + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """A 3×3 stem, stages of basic blocks that halve the image, global average pooling, a linear classifier."""

    def __init__(self, channels: int, classes: int, widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        stages, inputs = [], widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                stages.append(BasicBlock(inputs, width, stride=2 if block == 0 and stage > 0 else 1))
                inputs = width
        self.blocks = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` images to ``[N, classes]`` logits."""
        x = self.blocks(self.relu(self.norm(self.stem(x))))
        logits: Tensor = self.classifier(self.flatten(self.pool(x)))
        return logits


def resnet20(*, input_shape: tuple[int, ...] = (3, 32, 32), classes: int = 10, width: int = 16) -> nn.Module:
    """ResNet-20: three stages of three blocks with ``width``, 2·``width`` and 4·``width`` channels."""
    return ResNet(input_shape[0], classes, (width, 2 * width, 4 * width), (3, 3, 3))


def resnet18_cifar(*, input_shape: tuple[int, ...] = (3, 32, 32), classes: int = 10, width: int = 64) -> nn.Module:
    """ResNet-18 with a 3×3 stem: four stages of two blocks with 1, 2, 4 and 8 times ``width`` channels."""
    return ResNet(input_shape[0], classes, (width, 2 * width, 4 * width, 8 * width), (2, 2, 2, 2))
