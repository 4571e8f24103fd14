import pytest

from benchmarks.evidence.whole_front import over_budgets


def test_the_best_score_within_a_budget_counts_over_the_logarithm_of_budgets():
    # From 1 to 2 nothing fits, from 2 to 8 the first plan, from 8 to 16 the second: shares 1/4, 2/4 and 1/4.
    assert over_budgets([2.0, 8.0], [0.5, 0.9], 1.0, 16.0, 0.1) == pytest.approx(0.1 / 4 + 0.5 / 2 + 0.9 / 4)
    # What costs more than the largest budget never fits.
    assert over_budgets([1.0, 32.0], [0.5, 0.9], 1.0, 16.0, 0.1) == pytest.approx(0.5)
