"""The difference of two scores on the same samples, and the range that chance leaves for it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from bitsearch.score import Score

CONFIDENCE = 0.95


def score_of(row: NDArray[Any]) -> float:
    """The score that a row of :func:`bitsearch.train.evaluate.score_row` holds: the share of right samples, or itself.

    >>> from bitsearch.runs.paired import score_of
    >>> score_of(np.array([True, False])), score_of(np.array([0.25, 0.2, 0.3]))
    (0.5, 0.25)
    """
    return int(row.sum()) / len(row) if row.dtype == bool else float(row[0])


def standard_error(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Of the difference of two scores on the same samples, each a row of :func:`bitsearch.train.evaluate.score_row`.

    Of accuracies √(Σ(dᵢ - d̄)²/(N - 1)/N), a share of samples; of other scores the deviation of the differences of
    their replicates (Efron & Tibshirani 1993), none where a metric has no replicates.

    >>> from bitsearch.runs.paired import standard_error
    >>> right = np.arange(100) < 90
    >>> standard_error(right, right)
    0.0
    """
    assert first.shape == second.shape
    differences = first.astype(np.float64) - second
    if first.dtype != bool:
        return float(np.std(differences[1:], ddof=1)) if len(first) > 2 else 0.0
    if len(first) < 2:
        return 0.0
    return float(np.std(differences, ddof=1) / np.sqrt(len(first)))


@dataclass(frozen=True)
class PairedDifference:
    """By how much the first is better than the second, with its 95 % interval; of accuracies, shares of samples."""

    difference: float
    low: float
    high: float
    samples: int | None
    """None where they were not kept."""

    @property
    def is_shown(self) -> bool:
        """True if the interval leaves out zero: so many samples can tell the two apart."""
        return self.low > 0 or self.high < 0


def paired_difference(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> PairedDifference:
    """Compare two networks by which samples each of them got right, both ``[N]``, in the same order.

    Only samples that one of the two got right say anything. Their number c is taken as given; the share of the first
    among them is binomial, with Clopper and Pearson's exact interval (p₁, p₂), so that the difference lies in
    ((2p₁ - 1)·c/N, (2p₂ - 1)·c/N). It leaves out zero where McNemar's exact test rejects at 5 %.

    >>> from bitsearch.runs.paired import paired_difference
    >>> right = np.arange(100) < 90
    >>> paired_difference(right, np.arange(100) < 80).is_shown, paired_difference(right, right).is_shown
    (True, False)
    """
    assert first.shape == second.shape
    better, worse = int((first & ~second).sum()), int((second & ~first).sum())
    changed, samples = better + worse, len(first)
    if changed == 0:
        return PairedDifference(0.0, 0.0, 0.0, samples)
    low, high = binomtest(better, changed).proportion_ci(CONFIDENCE, method="exact")
    scale = changed / samples
    return PairedDifference((better - worse) / samples, (2 * low - 1) * scale, (2 * high - 1) * scale, samples)


def bootstrap_difference(first: NDArray[np.float64], second: NDArray[np.float64], score: Score) -> PairedDifference:
    """Compare two networks by a score that is no accuracy: each the score, then replicates on resampled samples.

    Replicates of both are of the same draws of samples, so that the interval, between the 2.5th and the 97.5th
    percentile of their differences, is that of pairs (Efron & Tibshirani 1993).

    >>> from bitsearch.runs.paired import bootstrap_difference
    >>> errors = np.array([1.0, 0.75, 1.25])
    >>> bootstrap_difference(errors, errors + 0.5, Score(name="error", share=False, direction="down")).low
    0.5
    """
    assert first.shape == second.shape
    differences = (first - second) * score.rank(1.0)
    low, high = np.percentile(differences[1:], [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return PairedDifference(float(differences[0]), float(low), float(high), None)


def row_difference(first: NDArray[Any], second: NDArray[Any], score: Score) -> PairedDifference | None:
    """Compare two rows of :func:`bitsearch.train.evaluate.score_row`; None of a metric that has no replicates.

    >>> from bitsearch.runs.paired import row_difference
    >>> row_difference(np.array([0.5]), np.array([0.25]), Score(name="error", share=False)) is None
    True
    """
    if first.dtype == bool:
        return paired_difference(first, second)
    return bootstrap_difference(first, second, score) if len(first) > 1 else None
