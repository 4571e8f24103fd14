"""Whether the data in a folder are the data set they are taken for: files, counts, shapes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitsearch.data import DATA_SETS, DataSet, load_data
from bitsearch.data.splits import Splits, labels_of
from bitsearch.errors import InputError

SPLITS = ("train", "validation", "test")
BLOCK = 1 << 20
"""Bytes of a file that are read at once."""


@dataclass
class Findings:
    """What was found, and what of it is wrong."""

    counts: dict[str, Tensor] = field(default_factory=dict)
    """Samples of every class, ``[classes]``, of every split; empty if the data cannot be loaded."""
    shape: tuple[int, ...] = ()
    """Of one input."""
    same: list[str] = field(default_factory=list)
    """What is as published: which files, and whether the counts are."""
    problems: list[str] = field(default_factory=list)
    """One line each."""


def check_data(name: str, options: Mapping[str, Any]) -> Findings:
    """Compare MD5 sums and the number of samples of every class with the published ones; look at samples' shapes.

    Args:
        name: a key of :data:`bitsearch.data.DATA_SETS`; or ``package.module:name``, of which nothing is published.
        options: the data set's.

    Raises:
        InputError: with an option ``limit``, which leaves nothing to count.
    """
    if "limit" in options:
        raise InputError("every sample is counted; leave limit out")
    found, data_set = Findings(), DATA_SETS.get(name)
    if data_set is not None and data_set.files and isinstance(options.get("root"), str):
        _compare_sums(data_set, Path(options["root"]).expanduser(), found)
    try:
        splits = load_data(name, options, split_seed=0)
        found.shape = splits.input_shape
        for split in SPLITS:
            labels = labels_of(splits.split(split))
            found.counts[split] = labels.bincount(minlength=splits.classes)
            _look_at_samples(name, splits, split, labels)
    except InputError as error:
        found.problems.append(str(error))
        return found
    if data_set is not None and data_set.counts:
        _compare_counts(data_set, found)
    return found


def _compare_sums(data_set: DataSet, root: Path, found: Findings) -> None:
    same = 0
    for file, published in data_set.files.items():
        path = root / file
        if not published or not path.is_file():
            continue
        with path.open("rb") as opened:
            digest = hashlib.md5(usedforsecurity=False)
            while block := opened.read(BLOCK):
                digest.update(block)
        if digest.hexdigest() == published:
            same += 1
        else:
            found.problems.append(
                f"{data_set.name}: {str(path)!r} is not the published file: its MD5 sum is {digest.hexdigest()}, "
                f"not {published}; download it again"
            )
    if same:
        found.same.append(f"the MD5 sums of {same} files")


def _look_at_samples(name: str, splits: Splits, split: str, labels: Tensor) -> None:
    """Read one sample of every class."""
    for label in labels.unique():
        index = int((labels == label).nonzero()[0])
        inputs, target = splits.split(split)[index]
        if tuple(inputs.shape) != splits.input_shape or int(target) != int(label):
            raise InputError(
                f"{name}: sample {index} of {split} has shape {tuple(inputs.shape)} and label {int(target)}, not "
                f"{splits.input_shape} and {int(label)}"
            )
        if not bool(torch.isfinite(inputs).all()):
            raise InputError(f"{name}: sample {index} of {split} is not finite")


def _compare_counts(data_set: DataSet, found: Findings) -> None:
    parts = {
        "train": found.counts["train"] + found.counts["validation"],
        "test": found.counts["test"],
        "all": torch.stack(list(found.counts.values())).sum(0),
    }
    before = len(found.problems)
    for part, published in data_set.counts.items():
        samples = parts[part]
        where = {"train": "training and validation split", "test": "test split", "all": "all splits"}[part]
        if len(samples) != data_set.classes:
            found.problems.append(f"{data_set.name}: {where}: {len(samples)} classes, not {data_set.classes}")
        elif isinstance(published, int):
            if int(samples.sum()) != published:
                found.problems.append(f"{data_set.name}: {where}: {int(samples.sum()):,} samples, not {published:,}")
        else:
            wrong = [
                f"{count:,} of class {label}, not {true:,}"
                for label, (count, true) in enumerate(zip(samples.tolist(), published, strict=True))
                if count != true
            ]
            more = f" (other classes that differ: {len(wrong) - 1})" if len(wrong) > 1 else ""
            found.problems += [f"{data_set.name}: {where}: samples {wrong[0]}{more}"] if wrong else []
    if len(found.problems) == before:
        found.same.append("the counts")
