"""Networks of spikingjelly's model zoo in their float form: ReLUs stand where the spiking neurons will be.

All take images ``[N, C, H, W]`` to ``[N, classes]``, or frames of events ``[T, N, C, H, W]`` to ``[T, N, classes]``.
The zoo is imported where it is needed: that takes a second which no other network has to spend.
"""

from collections.abc import Callable
from typing import Any

from spikingjelly.activation_based import layer
from torch import nn

from bitsearch.models.input_shape import FRAMES, IMAGE, check_input_shape, time_first


def resnet18(*, input_shape: tuple[int, ...] = (3, 224, 224), classes: int = 1000) -> nn.Module:
    """ResNet-18 for ImageNet, with a 7×7 stem (He et al. 2016)."""
    from spikingjelly.activation_based.model.spiking_resnet import spiking_resnet18

    return _resnet("resnet18", spiking_resnet18, input_shape, classes)


def resnet34(*, input_shape: tuple[int, ...] = (3, 224, 224), classes: int = 1000) -> nn.Module:
    """ResNet-34 for ImageNet, with a 7×7 stem (He et al. 2016)."""
    from spikingjelly.activation_based.model.spiking_resnet import spiking_resnet34

    return _resnet("resnet34", spiking_resnet34, input_shape, classes)


def sew_resnet18(*, input_shape: tuple[int, ...] = (3, 224, 224), classes: int = 1000) -> nn.Module:
    """SEW-ResNet-18, which adds the shortcuts behind the neurons (Fang et al. 2021, arXiv 2102.04159, ADD)."""
    from spikingjelly.activation_based.model.sew_resnet import sew_resnet18 as factory

    return _resnet("sew_resnet18", factory, input_shape, classes, cnf="ADD")


def sew_resnet34(*, input_shape: tuple[int, ...] = (3, 224, 224), classes: int = 1000) -> nn.Module:
    """SEW-ResNet-34, which adds the shortcuts behind the neurons (Fang et al. 2021, arXiv 2102.04159, ADD)."""
    from spikingjelly.activation_based.model.sew_resnet import sew_resnet34 as factory

    return _resnet("sew_resnet34", factory, input_shape, classes, cnf="ADD")


def spiking_vgg11(
    *, input_shape: tuple[int, ...] = (3, 224, 224), classes: int = 1000, batch_norm: bool = True
) -> nn.Module:
    """VGG-11 with its three wide linear layers (Simonyan and Zisserman 2015); ``batch_norm`` after convolutions."""
    from spikingjelly.activation_based.model import spiking_vgg

    check_input_shape("spiking_vgg11", input_shape, IMAGE, FRAMES, least_side=32)
    factory = spiking_vgg.spiking_vgg11_bn if batch_norm else spiking_vgg.spiking_vgg11
    network: Any = factory(spiking_neuron=nn.ReLU, num_classes=classes)
    network.features[0] = _for_channels(network.features[0], input_shape[-3])
    return time_first(network, input_shape)


def _resnet(
    name: str, factory: Callable[..., Any], input_shape: tuple[int, ...], classes: int, **options: str
) -> nn.Module:
    check_input_shape(name, input_shape, IMAGE, FRAMES)
    network = factory(spiking_neuron=nn.ReLU, num_classes=classes, **options)
    network.conv1 = _for_channels(network.conv1, input_shape[-3])
    return time_first(network, input_shape)


def _for_channels(stem: nn.Conv2d, channels: int) -> nn.Conv2d:
    """The zoo's stem if it takes ``channels``, or a new layer like it that does."""
    if stem.in_channels == channels:
        return stem
    shape: dict[str, Any] = {name: getattr(stem, name) for name in ("kernel_size", "stride", "padding")}
    replacement: nn.Conv2d = layer.Conv2d(channels, stem.out_channels, bias=stem.bias is not None, **shape)
    nn.init.kaiming_normal_(replacement.weight, mode="fan_out", nonlinearity="relu")
    if replacement.bias is not None:
        nn.init.zeros_(replacement.bias)
    return replacement
