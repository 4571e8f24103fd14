"""Samples without labels: what the float network predicts of them stands for these."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from bitsearch.data import Splits
from bitsearch.errors import InputError
from bitsearch.frameworks.eval_mode import eval_mode
from bitsearch.network_inputs import Inputs, map_inputs, moved
from bitsearch.train.predict import predict

AT_ONCE = 64
PARTS = ("train", "validation", "test")
JUDGED = 4
"""Of samples that are not in parts, one in so many judges the plans."""


class PredictedSamples(Dataset[tuple[Inputs, Tensor]]):
    """A data set's inputs, with the labels that a network predicts.

    Args:
        samples: inputs without labels.
        network: on its device.
    """

    def __init__(self, samples: Dataset[Any], network: nn.Module) -> None:
        self.samples = samples
        self.targets = torch.cat([labels for _, labels in PredictedBatches(DataLoader(samples, AT_ONCE), network)])

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Inputs, Tensor]:
        return _inputs(self.samples[index]), self.targets[index]


class PredictedBatches:
    """A loader's inputs, likewise.

    Args:
        loader: of batches without labels.
        network: on its device.
        time_axis: of the batches' inputs, where they have frames.
    """

    def __init__(self, loader: Any, network: nn.Module, time_axis: int | None = None) -> None:
        self.loader, self.network, self.time_axis = loader, network, time_axis

    def __len__(self) -> int:
        return len(self.loader)

    @torch.no_grad()
    def __iter__(self) -> Iterator[tuple[Inputs, Tensor]]:
        device = next(self.network.parameters()).device
        for batch in self.loader:
            inputs = _inputs(batch)
            passed = map_inputs(lambda x: x.transpose(0, 1), inputs) if self.time_axis == 1 else inputs
            with eval_mode(self.network):
                labels = predict(self.network, moved(passed, device)).argmax(1).cpu()
            yield inputs, labels


def with_predicted_labels(network: nn.Module, data: Any, time_axis: int | None) -> tuple[Any, bool]:
    """(data that have labels, whether the network's predictions stand for them).

    Args:
        network: the float one.
        data: as for :func:`bitsearch.allocate`, each part with labels or without; or one data set or tensor alone,
            without labels, of which a quarter judges the plans.
        time_axis: of the inputs in loaders' batches, where they have frames.

    Raises:
        InputError: some parts have labels and some have none.
    """
    if isinstance(data, Splits):
        return data, False
    if isinstance(data, Tensor | Dataset):
        data = _in_two(TensorDataset(data) if isinstance(data, Tensor) else data)
    parts = dict(data) if isinstance(data, Mapping) else dict(zip(PARTS, data, strict=False))
    parts = {name: TensorDataset(part) if isinstance(part, Tensor) else part for name, part in parts.items()}
    bare = [name for name, part in parts.items() if part is not None and _is_unlabelled(part)]
    if not bare:
        return data, False
    labelled = [name for name, part in parts.items() if part is not None and name not in bare]
    if labelled:
        raise InputError(f"{bare[0]} has no labels, and {labelled[0]} has; give labels to all parts or to none")
    warnings.warn(
        "allocate: the samples have no labels; those that the network predicts stand for them, and accuracy is the "
        "share on which a plan agrees with it",
        stacklevel=3,
    )
    return {
        name: PredictedSamples(part, network)
        if isinstance(part, Dataset)
        else PredictedBatches(part, network, time_axis)
        for name, part in parts.items()
        if part is not None
    }, True


def _in_two(samples: Dataset[Any]) -> tuple[Dataset[Any], Dataset[Any]]:
    size = len(samples)  # type: ignore[arg-type]  # torch's Dataset has no length; what is cut in two here has
    first = size - size // JUDGED
    return Subset(samples, range(first)), Subset(samples, range(first, size))


def _is_unlabelled(part: Any) -> bool:
    """Whether a data set's first sample, or a loader's first batch, is not a pair."""
    first = part[0] if isinstance(part, Dataset) else next(iter(part))
    return not (isinstance(first, tuple | list) and len(first) > 1)


def _inputs(sample: Any) -> Inputs:
    inputs: Inputs = sample[0] if isinstance(sample, tuple | list) else sample
    return inputs
