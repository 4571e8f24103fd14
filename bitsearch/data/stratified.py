"""Which samples are for training, validation and test, by class and seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitsearch.errors import InputError


@dataclass(frozen=True)
class Part:
    """One of the two official parts of a data set, training or test."""

    where: str
    """Its file or folder, for messages."""
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

    In random order, so that any first few samples are of all classes.

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
    for split, part, least in (("train", train, 2), ("test", test, 1)):
        for label, class_name in enumerate(classes):
            samples = np.flatnonzero(part.labels == label)
            if len(samples) < least:
                raise InputError(
                    f"{name}: samples of class {class_name!r} in {part.where!r}: {len(samples)}; "
                    f"at least {least} needed"
                )
            kept = samples[rng.permutation(len(samples))[:limit]]
            held_back = max(1, round(validation_share * len(kept))) if split == "train" else 0
            if held_back == len(kept):
                raise InputError(
                    f"{name}: validation_share {validation_share} of the {len(kept)} samples of class {class_name!r} "
                    "leaves none for training; lower it, or give more samples a class"
                )
            parts["validation"].append(kept[:held_back])
            parts[split].append(kept[held_back:])
    whole = {split: np.concatenate(pieces) for split, pieces in parts.items()}
    return {split: indices[rng.permutation(len(indices))] for split, indices in whole.items()}


def one_part(labels: np.ndarray, test_share: float, split_seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two official parts for a data set that has one: (training, test) indices, by class and seed.

    Args:
        labels: of all samples, ``[N]``.
        test_share: of every class; at least one sample.
        split_seed: fixes which.
    """
    rng = np.random.default_rng(split_seed)
    test = [
        rng.permutation(samples)[: max(1, round(test_share * len(samples)))]
        for samples in (np.flatnonzero(labels == label) for label in np.unique(labels))
    ]
    chosen = np.sort(np.concatenate(test))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen
