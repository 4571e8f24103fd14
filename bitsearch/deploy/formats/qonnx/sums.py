"""What a graph of integers holds: whole numbers, and which currents they stand for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bitsearch.deploy.integer.packed_layer import LayerNumbers, PackedLayer
from bitsearch.deploy.integer.rounding import rescaled


@dataclass(frozen=True)
class Affine:
    """⌊(x·multiplier + ½·2^shift) / 2^shift⌋ + bias of whole numbers, each int64 ``[C]``, by channel."""

    multiplier: Tensor
    """Never below zero."""
    shift: Tensor
    bias: Tensor

    @classmethod
    def of_layer(cls, layer: PackedLayer, numbers: LayerNumbers) -> "Affine":
        """Of sums over weights whose signs make every multiplier one that is not below zero."""
        multiplier, bias = (torch.from_numpy(array).long() for array in (abs(numbers.multiplier), numbers.bias))
        return cls(multiplier, torch.full_like(bias, layer.shift), bias)

    @classmethod
    def of_all(cls, channels: int, multiplier: int, shift: int = 0) -> "Affine":
        """The same for all channels, without a bias."""
        return cls(*(torch.full((channels,), value) for value in (multiplier, shift, 0)))

    def __call__(self, x: Tensor) -> Tensor:
        """Of ``[n, C]``."""
        return rescaled(x, self.multiplier, self.shift) + self.bias  # type: ignore[arg-type]  # of arrays

    def at(self, channels: Tensor) -> "Affine":
        """Of these channels, in this order."""
        return Affine(self.multiplier[channels], self.shift[channels], self.bias[channels])


@dataclass(frozen=True)
class Rectifier:
    """max(x, 0)."""

    def __call__(self, x: Tensor) -> Tensor:
        """Of ``[n, C]``."""
        return x.clamp_min(0)

    def at(self, channels: Tensor) -> "Rectifier":
        """Of any channels."""
        return self


@dataclass(frozen=True)
class Sums:
    """A tensor of whole numbers, and how the current of each comes of it: never falling as the number rises."""

    name: str
    """Of the tensor."""
    channels: int
    """C, its first axis behind the batch."""
    low: int
    high: int
    """Bounds of the whole numbers."""
    steps: tuple[Affine | Rectifier, ...] = ()
    """None where they are the currents themselves."""
    fraction: int | None = None
    """Of the encoding, where it is the network's real input whose whole numbers these are."""

    @property
    def whole(self) -> bool:
        """True if the tensor holds the currents themselves."""
        return not self.steps and self.fraction is None

    def currents(self, sums: Tensor) -> Tensor:
        """Of ``[n, C]``."""
        for step in self.steps:
            sums = step(sums)
        return sums

    def then(self, step: Affine | Rectifier) -> "Sums":
        """With another step behind."""
        return replace(self, steps=(*self.steps, step))

    def flattened(self, name: str, repeats: int) -> "Sums":
        """With each of the ``repeats`` numbers of a channel as a channel of its own."""
        channels = torch.arange(self.channels).repeat_interleave(repeats)
        return replace(self, name=name, channels=len(channels), steps=tuple(step.at(channels) for step in self.steps))


def concatenated(name: str, parts: Sequence[Sums]) -> Sums | None:
    """Channels one behind the other; None where their currents come of them by other kinds of steps."""
    kinds = {tuple(map(type, part.steps)) for part in parts}
    if len(kinds) > 1 or any(part.fraction is not None for part in parts):
        return None
    steps: list[Affine | Rectifier] = []
    for same in zip(*(part.steps for part in parts), strict=True):
        affine = [step for step in same if isinstance(step, Affine)]
        arrays = zip(*((step.multiplier, step.shift, step.bias) for step in affine), strict=True)
        steps.append(Affine(*(torch.cat(array) for array in arrays)) if affine else Rectifier())
    low, high = min(part.low for part in parts), max(part.high for part in parts)
    return Sums(name, sum(part.channels for part in parts), low, high, tuple(steps))
