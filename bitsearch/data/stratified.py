"""Stratified choice of the training, validation and test samples, by class and seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitsearch.errors import InputError


@dataclass(frozen=True)
class Part:
    """One of the two official parts of a data set, training or test."""

    source: str
    """The file or folder of the part, for messages."""
    labels: np.ndarray
    """``[N]``, from 0 to the number of classes − 1."""


def stratified(
    name: str,
    train: Part,
    test: Part,
    classes: Sequence[str],
    *,
    split_seed: int,
    validation_share: float,
    limit: int | None,
) -> dict[str, np.ndarray]:
    """Indices into ``train`` of the training and the validation split, and into ``test`` of the test split.

    The order is random, so that the first few samples are of all classes.

    Args:
        name: of the data set, for messages.
        train: official part that training and validation split share.
        test: official part that is the test split.
        classes: their names, for messages.
        split_seed: fixes which samples are held back, which a ``limit`` keeps, and the order.
        validation_share: share of every class of ``train`` that is held back for validation; at least one sample.
        limit: at most this many samples a class of ``train`` (validation included) and of ``test``.

    Raises:
        InputError: a class has too few samples.
    """
    rng = np.random.default_rng(split_seed)
    parts: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
    for split, part, least_count in (("train", train, 2), ("test", test, 1)):
        for label, class_name in enumerate(classes):
            samples = np.flatnonzero(part.labels == label)
            if len(samples) < least_count:
                raise InputError(
                    f"{name}: samples of class {class_name!r} in {part.source!r}: {len(samples)}; "
                    f"at least {least_count} needed"
                )
            subset = samples[rng.permutation(len(samples))[:limit]]
            validation_count = max(1, round(validation_share * len(subset))) if split == "train" else 0
            if validation_count == len(subset):
                raise InputError(
                    f"{name}: validation_share {validation_share} of the {len(subset)} samples of class {class_name!r} "
                    "leaves none for training; lower it, or give more samples a class"
                )
            parts["validation"].append(subset[:validation_count])
            parts[split].append(subset[validation_count:])
    indices_by_split = {split: np.concatenate(pieces) for split, pieces in parts.items()}
    return {split: indices[rng.permutation(len(indices))] for split, indices in indices_by_split.items()}


def split_one_part(labels: np.ndarray, test_share: float, split_seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split a data set without official parts into (training, test) indices, by class and seed.

    Args:
        labels: of all samples, ``[N]``.
        test_share: share of every class for the test part; at least one sample.
        split_seed: fixes the choice.
    """
    rng = np.random.default_rng(split_seed)
    test_parts = [
        rng.permutation(samples)[: max(1, round(test_share * len(samples)))]
        for samples in (np.flatnonzero(labels == label) for label in np.unique(labels))
    ]
    test_indices = np.sort(np.concatenate(test_parts))
    return np.setdiff1d(np.arange(len(labels)), test_indices), test_indices
