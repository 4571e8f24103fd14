"""Fully connected spiking networks for series of features, feed-forward and recurrent, with SpikingJelly's neurons."""

import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn

from bitsearch.errors import InputError
from bitsearch.models.input_shape import FEATURES, check_input_shape, check_whole, time_first


def spiking_mlp(
    *, input_shape: tuple[int, ...] = (32, 32), classes: int = 10, width: int = 128, depth: int = 3, tau: float = 4.0
) -> nn.Module:
    """``depth`` hidden layers of ``width`` leaky integrate-and-fire neurons behind batch norm, and a linear classifier.

    ``[T, N, features]`` to ``[T, N, classes]``; the mean over frames decides. Membranes keep 1 − 1/``tau`` from frame
    to frame, and spikes are subtracted from them. Trained by a surrogate gradient, the derivative of an arctangent.
    """
    check_input_shape("spiking_mlp", input_shape, FEATURES)
    check_whole("spiking_mlp", width=width, depth=depth)
    features = input_shape[-1]
    modules: list[nn.Module] = []
    for _ in range(depth):
        modules += [
            layer.Linear(features, width, bias=False),
            layer.BatchNorm1d(width),
            _leaky("spiking_mlp", tau, step_mode="m"),
        ]
        features = width
    return time_first(nn.Sequential(*modules, layer.Linear(features, classes)), input_shape)


def recurrent_spiking_mlp(
    *, input_shape: tuple[int, ...] = (32, 32), classes: int = 10, width: int = 96, depth: int = 2, tau: float = 4.0
) -> nn.Module:
    """``depth`` hidden layers of ``width`` leaky integrate-and-fire neurons that read their own spikes a frame later.

    ``[T, N, features]`` to ``[T, N, classes]``, otherwise as :func:`spiking_mlp`, without batch norm: its statistics
    would have to differ from frame to frame (Cooijmans et al. 2017).
    """
    check_input_shape("recurrent_spiking_mlp", input_shape, FEATURES)
    check_whole("recurrent_spiking_mlp", width=width, depth=depth)
    return _Recurrent(input_shape[-1], classes, width, depth, tau)


class _Recurrent(nn.Module):
    """A loop over frames in which each block adds what came in and what it sent the frame before."""

    def __init__(self, features: int, classes: int, width: int, depth: int, tau: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _RecurrentBlock(width if number else features, width, tau) for number in range(depth)
        )
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[T, N, classes]`` of frames ``[T, N, features]``."""
        sent = [x.new_zeros(x.shape[1], self.classifier.in_features) for _ in self.blocks]
        logits = []
        for frame in x:
            for number, block in enumerate(self.blocks):
                frame = sent[number] = block(frame, sent[number])  # the next block's input
            logits.append(self.classifier(frame))
        return torch.stack(logits)


class _RecurrentBlock(nn.Module):
    def __init__(self, features: int, width: int, tau: float) -> None:
        super().__init__()
        self.forwards = nn.Linear(features, width)
        self.back = nn.Linear(width, width, bias=False)
        self.neuron = _leaky("recurrent_spiking_mlp", tau, step_mode="s")
        nn.init.orthogonal_(self.back.weight, 0.5)

    def forward(self, x: Tensor, sent: Tensor) -> Tensor:
        """Spikes ``[N, width]`` of one frame's input and the spikes sent the frame before."""
        return self.neuron(self.forwards(x) + self.back(sent))  # type: ignore[no-any-return]  # of an untyped library


def _leaky(network: str, tau: float, step_mode: str) -> nn.Module:
    if isinstance(tau, bool) or not isinstance(tau, int | float) or not 1 < tau < float("inf"):
        raise InputError(f"network {network!r}: tau is {tau!r}; give a number of frames above 1")
    return neuron.LIFNode(  # type: ignore[no-any-return]  # of an untyped library
        tau=float(tau),
        decay_input=False,
        v_reset=None,
        detach_reset=True,
        surrogate_function=surrogate.ATan(),
        step_mode=step_mode,
    )
