"""Spikformer, a transformer whose attention multiplies spikes (Zhou et al. 2023, arXiv 2209.15425), from spikingjelly.

Queries, keys, values and projections are 1×1 convolutions; there is no softmax, for spikes are not negative.
"""

from typing import Any, Literal, get_args

from torch import Tensor, nn

from bitsearch.errors import InputError
from bitsearch.models.input_shape import FRAMES, IMAGE, check_input_shape, check_whole

PATCH = 4
"""Pixels along a token's side."""
Attention = Literal["relu", "spikes"]
"""What queries, keys and values are."""


def spikformer_cifar(
    *,
    input_shape: tuple[int, ...] = (3, 32, 32),
    classes: int = 10,
    width: int = 384,
    depth: int = 4,
    heads: int = 12,
    attention: Attention = "relu",
) -> nn.Module:
    """Spikformer-4-384 for CIFAR: patches of 4×4 pixels, ``depth`` blocks of ``width`` channels and ``heads`` heads.

    Images ``[N, C, H, W]`` to ``[N, classes]``, or frames of events ``[T, N, C, H, W]`` to ``[T, N, classes]``.
    ReLUs stand where the spiking neurons will be. ``width`` is a multiple of 8, for the stem, and of ``heads``. With
    ``attention="spikes"`` queries, keys and values are spikes of one bit already, of neurons that stay in the network:
    then its products count at these bits, and not at the 32 of what ReLUs send.
    """
    check_input_shape("spikformer_cifar", input_shape, IMAGE, FRAMES, least_side=PATCH)
    check_whole("spikformer_cifar", width=width, depth=depth, heads=heads)
    if width % 8 or width % heads:
        raise InputError(
            f"network 'spikformer_cifar': width is {width}; give a multiple of 8 and of its {heads} heads, such as 384"
        )
    if attention not in get_args(Attention):
        allowed = " or ".join(repr(value) for value in get_args(Attention))
        raise InputError(f"network 'spikformer_cifar': attention is {attention!r}; give {allowed}")
    return FloatSpikformer(input_shape, classes, width, depth, heads, attention)


class FloatSpikformer(nn.Module):
    """Spikingjelly's Spikformer with ReLUs in place of neurons, all but those of queries, keys and values on request.

    An image goes through it once.
    """

    def __init__(
        self, input_shape: tuple[int, ...], classes: int, width: int, depth: int, heads: int, attention: Attention
    ) -> None:
        super().__init__()
        # Imported where it is needed: it takes a second that no other network has to spend.
        from spikingjelly.activation_based import neuron, surrogate
        from spikingjelly.activation_based.model import Spikformer

        channels, height, columns = input_shape[-3:]
        self.has_time_axis = len(input_shape) == len(FRAMES)
        self.spikformer = Spikformer(
            T=1,
            in_channels=channels,
            img_size_h=height,
            img_size_w=columns,
            patch_size=PATCH,
            num_classes=classes,
            embed_dims=width,
            num_heads=heads,
            depths=depth,
            spiking_neuron=_relu,
        )
        if attention == "spikes":
            for block in self.spikformer.blocks:
                block.attn.qkv_lif = neuron.LIFNode(
                    tau=2.0, decay_input=False, detach_reset=True, surrogate_function=surrogate.ATan(), step_mode="m"
                )

    def forward(self, x: Tensor) -> Tensor:
        """Logits, with a time axis where the input has one."""
        logits: Tensor = self.spikformer(x)
        return logits if self.has_time_axis else logits.squeeze(0)


def _relu(**_: Any) -> nn.ReLU:
    """A ReLU in place of a neuron, whose options it ignores."""
    return nn.ReLU()
