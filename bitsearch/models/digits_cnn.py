"""A small convolutional network for handwritten digits, as images or as frames of events."""

from collections import OrderedDict

from spikingjelly.activation_based.neuron import IFNode
from torch import nn

from bitsearch.errors import InputError
from bitsearch.models.input_shape import FRAMES, IMAGE, check_input_shape, check_whole, layers_for, time_first


def digits_cnn(
    *, input_shape: tuple[int, ...] = (1, 8, 8), classes: int = 10, width: int = 16, classifier: str = "linear"
) -> nn.Module:
    """Four 3×3 convolutions with batch norm and ReLU, global average pooling and a linear classifier.

    ``[N, C, H, W]`` images to ``[N, classes]`` logits. Channels: ``width``, then twice and four times as many; the
    second and the fourth convolution halve the image. With ``classifier="gap"`` a 1×1 convolution to the classes comes
    before the pooling and there is no dense layer, as ALBSNN has it.
    """
    check_input_shape("digits_cnn", input_shape, IMAGE)
    check_whole("digits_cnn", width=width)
    if classifier not in ("linear", "gap"):
        raise InputError(f"network 'digits_cnn': classifier is {classifier!r}; allowed: linear, gap")
    return _digits_cnn(input_shape, classes, width, classifier)


def digits_events_cnn(
    *, input_shape: tuple[int, ...] = (8, 2, 8, 8), classes: int = 10, width: int = 16, neuron: str = "relu"
) -> nn.Module:
    """:func:`digits_cnn` on every frame of events: ``[T, N, C, H, W]`` to ``[T, N, classes]``.

    With ``neuron="if"`` integrate-and-fire neurons stand in place of the ReLUs. Negative currents then lower their
    membranes, which chips do and NIR can write down; a rectifier in front of a membrane it cannot.
    """
    check_input_shape("digits_events_cnn", input_shape, FRAMES)
    check_whole("digits_events_cnn", width=width)
    if neuron not in ("relu", "if"):
        raise InputError(f"network 'digits_events_cnn': neuron is {neuron!r}; allowed: relu, if")
    return _digits_cnn(input_shape, classes, width, neuron=neuron)


def _digits_cnn(
    input_shape: tuple[int, ...], classes: int, width: int, classifier: str = "linear", neuron: str = "relu"
) -> nn.Module:
    layers, channels = layers_for(input_shape), input_shape[-3]
    stages = ((width, 1), (2 * width, 2), (2 * width, 1), (4 * width, 2))
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (outputs, stride) in enumerate(stages, start=1):
        modules[f"conv{number}"] = layers.Conv2d(channels, outputs, 3, stride=stride, padding=1, bias=False)
        modules[f"norm{number}"] = layers.BatchNorm2d(outputs)
        if neuron == "if":
            modules[f"neuron{number}"] = IFNode(v_reset=None, step_mode="m")
        else:
            modules[f"relu{number}"] = nn.ReLU()
        channels = outputs
    if classifier == "gap":
        modules["classifier"] = layers.Conv2d(channels, classes, 1)
    modules["pool"] = layers.AdaptiveAvgPool2d(1)
    modules["flatten"] = layers.Flatten()
    if classifier == "linear":
        modules["classifier"] = layers.Linear(channels, classes)
    return time_first(nn.Sequential(modules), input_shape)
