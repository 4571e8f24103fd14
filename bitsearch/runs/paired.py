"""The difference of two scores on the same samples, and the range that chance leaves for it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from bitsearch.score import Score

CONFIDENCE = 0.95
RESAMPLES = 2000
"""Of the bootstrap; it is seeded, so that the same results have the same interval."""
CHUNK = 100
"""So many of these at once."""


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
    seeds: int = 1
    """Trainings of each network that were compared."""

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


def paired_difference_over_seeds(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> PairedDifference:
    """Compare two networks that were trained with several seeds, both ``[seeds, N]``: which samples each got right.

    The interval is the bootstrap's over seeds and samples at once (Efron & Tibshirani 1993, percentiles), so that it is
    about further trainings on further samples; few seeds make it too narrow rather than too wide. One seed's is that of
    :func:`paired_difference`.

    >>> from bitsearch.runs.paired import paired_difference_over_seeds
    >>> right = np.arange(200).reshape(2, 100) % 100 < 90
    >>> paired_difference_over_seeds(right, right).is_shown
    False
    """
    assert first.shape == second.shape
    seeds, samples = first.shape
    if seeds == 1:
        return paired_difference(first[0], second[0])
    differences = first.astype(np.float64) - second
    generator = np.random.default_rng(0)
    means = []
    for _ in range(RESAMPLES // CHUNK):
        drawn_samples = generator.multinomial(samples, np.full(samples, 1 / samples), size=CHUNK)
        drawn_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=CHUNK)
        means.append(((drawn_samples @ differences.T) * drawn_seeds).sum(1) / (seeds * samples))
    low, high = np.quantile(np.concatenate(means), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return PairedDifference(float(differences.mean()), float(low), float(high), samples, seeds)


def rows_difference(first: NDArray[Any], second: NDArray[Any], score: Score) -> PairedDifference | None:
    """Compare two networks by rows of several seeds, ``[seeds, ...]``, as :func:`row_difference` does by one of each.

    Of scores that are no accuracy the interval is about further samples alone.
    """
    if first.dtype == bool:
        return paired_difference_over_seeds(first, second)
    difference = row_difference(first.mean(0), second.mean(0), score)
    return None if difference is None else replace(difference, seeds=len(first))
