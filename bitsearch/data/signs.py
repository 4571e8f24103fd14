"""Whether inputs may be below zero: told by the training samples, where they are in memory."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from bitsearch.data.splits import Samples

_AT_ONCE = 1024
"""Samples that are looked at together."""


def has_negative_inputs(samples: Samples) -> bool | None:
    """True if any sample's input is below zero anywhere; None for samples that are read from elsewhere one by one.

    An augmentation is not looked at.
    """
    source, indices = _in_memory(samples)
    if source is None:
        return None
    return any(bool((source[part.tolist()][0] < 0).any()) for part in indices.split(_AT_ONCE))


def _in_memory(samples: Any) -> tuple[Any, Tensor]:
    """(tensors in memory, which are indexed by lists, and the indices that belong to the samples), or (None, none)."""
    if isinstance(samples, TensorDataset):
        return samples, torch.arange(len(samples))
    if isinstance(samples, Subset):
        source, indices = _in_memory(samples.dataset)
        return source, indices if source is None else indices[torch.as_tensor(samples.indices, dtype=torch.long)]
    return None, torch.empty(0)
