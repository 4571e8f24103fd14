"""The spiking network of docs/your-own-network.md, for images or for frames; it imports nothing of bitsearch."""

from collections.abc import Sequence

from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn


class CSNN(nn.Module):
    """Two blocks of convolution, batch norm, IF neurons with a hard reset and pooling, and a layer of output neurons.

    With ``time_steps``, images ``[N, C, H, W]`` are repeated as often; without, it takes frames ``[T, N, C, H, W]``.
    """

    def __init__(self, input_shape: Sequence[int], classes: int, channels: int = 16, time_steps: int = 0) -> None:
        super().__init__()
        self.time_steps = time_steps

        def block(inputs: int, outputs: int) -> list[nn.Module]:
            return [
                layer.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False),
                layer.BatchNorm2d(outputs),
                neuron.IFNode(surrogate_function=surrogate.ATan()),
                layer.MaxPool2d(2, 2),
            ]

        colours, height, width = input_shape[-3:]
        self.features = nn.Sequential(*block(colours, channels), *block(channels, 2 * channels))
        self.classifier = nn.Sequential(
            layer.Flatten(),
            layer.Linear(2 * channels * (height // 4) * (width // 4), classes, bias=False),
            neuron.IFNode(surrogate_function=surrogate.ATan()),
        )
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        """Firing rates ``[N, classes]``."""
        if self.time_steps:
            x = x.unsqueeze(0).repeat(self.time_steps, 1, 1, 1, 1)
        return self.classifier(self.features(x)).mean(0)  # type: ignore[no-any-return]
