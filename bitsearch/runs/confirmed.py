"""The finalists of a run, and what they were worth with further seeds.

Of many plans, the best on validation is so by chance as well. Trained anew with other seeds it is measured without the
choice, and so are the plans that it is set beside.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bitsearch.runs.folder import RunFolder
from bitsearch.runs.paired import score_of
from bitsearch.runs.rows import read_rows, record_rows

ROW = re.compile(r"trial-(\d+)\.seed-(\d+)")
Seeds = dict[int, NDArray[Any]]
"""By seed, what a training got right of a split, as :func:`bitsearch.train.evaluate.score_row` has it."""


@dataclass(frozen=True)
class Confirmed:
    """A finalist's accuracies over further seeds."""

    trial: int
    seeds: tuple[int, ...]
    validation: tuple[float, ...]
    """One a seed."""
    test: tuple[float, ...]
    """Likewise; empty without a test split."""

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        return vars(self)


def row_name(trial: int, seed: int) -> str:
    """Of one training in the files of a run."""
    return f"trial-{trial:04d}.seed-{seed}"


def record_confirmed(path: Path, row: str, correct: NDArray[Any]) -> None:
    """Add which samples of a split one training got right."""
    record_rows(path, read_rows(path) | {row: correct})


def confirmed(folder: RunFolder) -> list[Confirmed]:
    """Of every plan that was trained with further seeds, in the order of their trials; InputError if a file is none."""
    validation = seeds_by_trial(folder.confirmed_validation_file)
    test = seeds_by_trial(folder.confirmed_test_file)
    results = []
    for trial, by_seed in sorted(validation.items()):
        seeds = sorted(by_seed)
        tested = test.get(trial, {})
        results.append(
            Confirmed(
                trial,
                tuple(seeds),
                tuple(score_of(by_seed[seed]) for seed in seeds),
                tuple(score_of(tested[seed]) for seed in seeds if seed in tested),
            )
        )
    return results


def seeds_by_trial(path: Path) -> dict[int, Seeds]:
    """By trial and seed, which samples of a split a training got right; empty where nothing was confirmed."""
    table: dict[int, Seeds] = {}
    for row, correct in read_rows(path).items():
        match = ROW.fullmatch(row)
        if match is not None:
            table.setdefault(int(match[1]), {})[int(match[2])] = correct
    return table
