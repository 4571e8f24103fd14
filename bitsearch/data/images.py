"""Images in memory as ``uint8``, normalized by the training split when they are read, and augmented by the batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from bitsearch.data.splits import Splits
from bitsearch.data.stratified import Part, stratified

PADDING_PIXELS = 4
"""Width in pixels of the border that a random crop may include."""


@dataclass(frozen=True)
class Crops:
    """Random shifts and reflections of training images."""

    padding: int = PADDING_PIXELS
    """Largest shift of an image, each way, in pixels."""
    mirror: bool = True
    """Mirror half of the images, left to right, at random."""
    black: bool = False
    """Pad shifted images with black, the background of digits; otherwise with the mean colour."""


class Images(TensorDataset):
    """Images kept as ``uint8`` ``[N, C, H, W]`` and normalized when they are read.

    Args:
        pixels: 0 to 255.
        labels: ``[N]``.
        mean: of every channel, ``[C, 1, 1]``, in pixels.
        deviation: of every channel, ``[C, 1, 1]``, in pixels.
    """

    def __init__(self, pixels: Tensor, labels: Tensor, mean: Tensor, deviation: Tensor) -> None:
        super().__init__(pixels, labels)
        self.mean, self.deviation = mean, deviation

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        """(``float32`` inputs ``[..., C, H, W]``, labels) of an index, a slice or a list of indices."""
        pixels, labels = super().__getitem__(index)
        return (pixels - self.mean) / self.deviation, labels


class AugmentedImages(Images):
    """Images whose shuffled batches are cropped and flipped at random; ``crops`` says how."""

    def __init__(self, pixels: Tensor, labels: Tensor, mean: Tensor, deviation: Tensor, crops: Crops) -> None:
        super().__init__(pixels, labels, mean, deviation)
        self.crops = crops

    def augment(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """As :func:`crop_and_flip`."""
        black = -self.mean / self.deviation
        if self.crops.black:
            # Padding adds zeros; the shift makes them black.
            return crop_and_flip(inputs - black, generator, self.crops) + black
        return crop_and_flip(inputs, generator, self.crops)


def image_splits(parts: Mapping[str, tuple[Tensor, Tensor]], *, classes: Sequence[str], crops: Crops | None) -> Splits:
    """Splits of images in memory, normalized by the channels' means and standard deviations over the training split.

    Args:
        parts: (``uint8`` pixels ``[N, C, H, W]``, labels ``[N]``) of ``train``, ``validation`` and ``test``.
        classes: their names.
        crops: how training batches are augmented; None leaves them as they are.
    """
    statistics = channel_statistics(parts["train"][0])
    splits = {name: Images(*part, *statistics) for name, part in parts.items()}
    if crops is not None:
        splits["train"] = AugmentedImages(*parts["train"], *statistics, crops)
    shape = tuple(parts["train"][0].shape[1:])
    mean, deviation = (tuple(values.flatten().tolist()) for values in statistics)
    return Splits(
        splits["train"],
        splits["validation"],
        splits["test"],
        input_shape=shape,
        classes=len(classes),
        class_names=tuple(classes),
        mean=mean,
        deviation=deviation,
    )


def split_images(
    name: str,
    train: tuple[Tensor, Part],
    test: tuple[Tensor, Part],
    classes: Sequence[str],
    *,
    split_seed: int,
    validation_share: float,
    limit: int | None,
    crops: Crops | None,
) -> Splits:
    """Splits of two official parts, each ``uint8`` pixels ``[N, C, H, W]`` and their labels.

    As :func:`bitsearch.data.stratified.stratified` chooses them; otherwise as :func:`image_splits`.
    """
    split_indices = stratified(
        name, train[1], test[1], classes, split_seed=split_seed, validation_share=validation_share, limit=limit
    )
    sources = {"train": train, "validation": train, "test": test}
    parts = {}
    for split, indices in split_indices.items():
        pixels, part = sources[split]
        parts[split] = (pixels[indices], torch.from_numpy(part.labels[indices]))
    return image_splits(parts, classes=classes, crops=crops)


def channel_statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """(mean, standard deviation) of every channel of ``uint8`` images ``[N, C, H, W]``, each ``[C, 1, 1]``.

    Exact: from how often each of the 256 values occurs. A channel of one value only has deviation 1.
    """
    values = torch.arange(256, dtype=torch.float64)
    shares = torch.stack([channel.flatten().bincount(minlength=256).double() for channel in pixels.unbind(1)])
    shares /= shares.sum(1, keepdim=True)
    mean = shares @ values
    deviation = (shares * (values - mean[:, None]).square()).sum(1).sqrt()
    deviation[deviation == 0] = 1
    return mean.float().view(-1, 1, 1), deviation.float().view(-1, 1, 1)


def crop_and_flip(inputs: Tensor, generator: torch.Generator, crops: Crops = Crops()) -> Tensor:  # noqa: B008  # frozen
    """Every image of ``[N, C, H, W]`` shifted by up to ``crops.padding`` pixels each way, and mirrored or not.

    The usual augmentation of CIFAR (He et al. 2016). Zeros come in at the edges: the mean colour.
    """
    count, _, height, width = inputs.shape
    top, left = torch.randint(2 * crops.padding + 1, (2, count, 1), generator=generator)
    rows = top + torch.arange(height)
    columns = left + torch.arange(width)
    if crops.mirror:
        is_mirrored = torch.randint(2, (count, 1), generator=generator).bool()
        columns = torch.where(is_mirrored, columns.flip(1), columns)
    padded = torch.nn.functional.pad(inputs, [crops.padding] * 4)
    # Indices of different axes are broadcast: [N, 1, 1], [N, H, 1] and [N, 1, W] give [N, H, W, C].
    return (
        padded.permute(0, 2, 3, 1)[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
        .permute(0, 3, 1, 2)
        .contiguous()
    )
