"""How many samples each class has: an accuracy says little until it is seen beside the share of the largest class."""

import torch

from bitsearch.data.loaders import LoadedSamples
from bitsearch.data.splits import Splits, labels_of


def class_counts(splits: Splits, part: str) -> dict[str, int]:
    """Samples of each class of a part, by the class's name, or by its number where it has none of its own.

    A part that keeps no labels beside its samples is read once for them.

    Raises:
        InputError: there is no such part, or a sample cannot be read.
    """
    samples = splits.split(part)
    labels = (
        torch.cat([labels for _, labels in samples.batches()])
        if isinstance(samples, LoadedSamples)
        else labels_of(samples)
    )
    names = splits.class_names or ()
    if len(set(names)) != splits.classes:
        names = tuple(str(label) for label in range(splits.classes))
    return dict(zip(names, labels.bincount(minlength=splits.classes).tolist(), strict=True))
