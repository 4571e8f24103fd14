"""A feed-forward network for spoken digits as spikes of 700 cochlear channels (Cramer et al. 2022)."""

from spikingjelly.activation_based import layer
from torch import nn

from bitsearch.models.input_shape import FEATURES, check_input_shape, check_whole, time_first


def shd_mlp(
    *, input_shape: tuple[int, ...] = (50, 700), classes: int = 20, width: int = 256, depth: int = 2
) -> nn.Module:
    """``depth`` hidden layers of ``width`` features with batch norm and ReLU, and a linear classifier.

    ``[T, N, features]`` to ``[T, N, classes]``.
    """
    check_input_shape("shd_mlp", input_shape, FEATURES)
    check_whole("shd_mlp", width=width, depth=depth)
    features = input_shape[-1]
    modules: list[nn.Module] = []
    for _ in range(depth):
        modules += [layer.Linear(features, width, bias=False), layer.BatchNorm1d(width), nn.ReLU()]
        features = width
    return time_first(nn.Sequential(*modules, layer.Linear(features, classes)), input_shape)
