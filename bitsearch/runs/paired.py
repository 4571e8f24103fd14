"""The difference of two accuracies on the same samples, and the range that chance leaves for it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

CONFIDENCE = 0.95


def standard_error(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Of the difference of two accuracies on the same samples, both ``[N]``: √(Σ(dᵢ - d̄)²/(N - 1)/N), a share of these.

    >>> from bitsearch.runs.paired import standard_error
    >>> right = np.arange(100) < 90
    >>> standard_error(right, right)
    0.0
    """
    assert first.shape == second.shape
    if len(first) < 2:
        return 0.0
    differences = first.astype(np.float64) - second
    return float(np.std(differences, ddof=1) / np.sqrt(len(first)))


@dataclass(frozen=True)
class PairedDifference:
    """The first accuracy minus the second, with its 95 % interval, all as shares of the samples."""

    difference: float
    low: float
    high: float
    samples: int

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
