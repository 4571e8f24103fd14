"""Compare the data in a folder with the published data set: MD5 sums, samples of every class, shapes."""

import gzip
import hashlib
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from bitsearch.data import DATA_SETS, DataSet, load_data
from bitsearch.data.splits import Samples, Splits, in_memory, labels_of
from bitsearch.data.targets import CLASS, Targets
from bitsearch.errors import InputError
from bitsearch.network_inputs import InputShape, as_inputs, normal_shape, shape_of, shape_text, tensors_of

BLOCK_BYTES = 1 << 20
"""Bytes of a file that are read at once."""


@dataclass
class Findings:
    """The result of a check: samples and targets, the input's shape, matches with what is published, and problems."""

    sizes: dict[str, int] = field(default_factory=dict)
    """Samples by split; empty if the data cannot be loaded."""
    counts: dict[str, Tensor] = field(default_factory=dict)
    """Number of samples of every class, ``[classes]``, by split; empty where a sample is of no single class."""
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Lowest and highest number that targets hold, by split; empty where every sample is of one class."""
    shape: InputShape = ()
    """Of a sample's input, or of each of several."""
    matches: list[str] = field(default_factory=list)
    """Noun phrases for what is as published, such as "the counts"."""
    problems: list[str] = field(default_factory=list)
    """One line for each difference from what is published."""


def check_data(name: str, options: Mapping[str, Any], targets: Targets = CLASS) -> Findings:
    """Compare MD5 sums and the number of samples of every class with the published ones; look at samples' shapes.

    Of targets that are no class numbers, every one is read.

    Args:
        name: a key of :data:`bitsearch.data.DATA_SETS`; or ``package.module:name``, of which nothing is published.
        options: the data set's.
        targets: what those of the samples are to be.

    Raises:
        InputError: with an option ``limit``, which leaves nothing to count.
    """
    if "limit" in options:
        raise InputError("every sample is counted; leave limit out")
    findings, data_set = Findings(), DATA_SETS.get(name)
    if data_set is not None and data_set.files and isinstance(options.get("root"), str):
        _compare_sums(data_set, Path(options["root"]).expanduser(), findings)
    try:
        splits = load_data(name, options, split_seed=0, targets=targets)
        findings.shape = normal_shape(splits.input_shape)
        for split, size in splits.sizes.items():
            if targets.kind == "class":
                labels = labels_of(splits.split(split))
                findings.counts[split] = labels.bincount(minlength=splits.classes)
                _look_at_samples(name, splits, split, labels)
            else:
                findings.ranges[split] = _range(splits.split(split), targets)
            findings.sizes[split] = size
    except InputError as error:
        findings.problems.append(str(error))
        return findings
    if data_set is not None and data_set.counts:
        _compare_counts(data_set, findings)
    return findings


def _compare_sums(data_set: DataSet, root: Path, findings: Findings) -> None:
    match_count = 0
    for file, published in data_set.files.items():
        path = data_set.locate(file, root)
        if not published or not path.is_file():
            continue
        if path.suffix != (root / file).suffix:
            published = data_set.contents[file]
        with path.open("rb") as stream:
            digest = _md5(stream)
        if digest == published or (file in data_set.contents and _content_sum(path) == data_set.contents[file]):
            match_count += 1
        else:
            findings.problems.append(
                f"{data_set.name}: {str(path)!r} is not the published file: its MD5 sum is {digest}, "
                f"not {published}; download it again"
            )
    if match_count:
        findings.matches.append(f"the MD5 sums of {match_count} files")


def _content_sum(path: Path) -> str | None:
    """MD5 sum of what a file compressed by gzip holds; None where it holds nothing that can be read."""
    try:
        with gzip.open(path) as stream:
            return _md5(cast(BinaryIO, stream))
    except (OSError, EOFError, zlib.error):
        return None


def _md5(stream: BinaryIO) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while block := stream.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _look_at_samples(name: str, splits: Splits, split: str, labels: Tensor) -> None:
    """Read one sample of every class."""
    for label in labels.unique():
        index = int((labels == label).nonzero()[0])
        sample, target = splits.split(split)[index]
        inputs, expected = as_inputs(sample), normal_shape(splits.input_shape)
        if shape_of(inputs) != expected or int(target) != int(label):
            raise InputError(
                f"{name}: sample {index} of {split} has shape {shape_text(shape_of(inputs))} and label {int(target)}, "
                f"not {shape_text(expected)} and {int(label)}"
            )
        if not all(bool(torch.isfinite(x).all()) for x in tensors_of(inputs)):
            raise InputError(f"{name}: sample {index} of {split} is not finite")


def _range(samples: Samples, targets: Targets) -> tuple[float, float]:
    """Lowest and highest number of all targets; samples that are checked as they are read are checked here."""
    source, indices = in_memory(samples)
    if source is None:
        count = len(samples)
        numbers = torch.cat([torch.as_tensor(samples[index][1]).flatten() for index in range(count)])
    else:
        numbers = source.tensors[-1][indices].flatten()
    if targets.kind == "classes":
        numbers = numbers[numbers != targets.ignored]
    return (float(numbers.min()), float(numbers.max())) if len(numbers) else (math.nan, math.nan)


def _compare_counts(data_set: DataSet, findings: Findings) -> None:
    parts = {
        "train": findings.counts["train"] + findings.counts["validation"],
        "test": findings.counts["test"],
        "all": torch.stack(list(findings.counts.values())).sum(0),
    }
    problem_count = len(findings.problems)
    for part, published in data_set.counts.items():
        samples = parts[part]
        part_words = {"train": "training and validation split", "test": "test split", "all": "all splits"}[part]
        if len(samples) != data_set.classes:
            findings.problems.append(f"{data_set.name}: {part_words}: {len(samples)} classes, not {data_set.classes}")
        elif isinstance(published, int):
            if int(samples.sum()) != published:
                findings.problems.append(
                    f"{data_set.name}: {part_words}: {int(samples.sum()):,} samples, not {published:,}"
                )
        else:
            differences = [
                f"{count:,} of class {label}, not {published_count:,}"
                for label, (count, published_count) in enumerate(zip(samples.tolist(), published, strict=True))
                if count != published_count
            ]
            suffix = f" (other classes that differ: {len(differences) - 1})" if len(differences) > 1 else ""
            findings.problems += (
                [f"{data_set.name}: {part_words}: samples {differences[0]}{suffix}"] if differences else []
            )
    if len(findings.problems) == problem_count:
        findings.matches.append("the counts")
