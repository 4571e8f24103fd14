import pytest

from benchmarks.evidence.whole_front import front_by_loss, over_budgets, rise


def test_the_best_score_within_a_budget_counts_over_the_logarithm_of_budgets():
    # From 1 to 2 nothing fits, from 2 to 8 the first plan, from 8 to 16 the second: shares 1/4, 2/4 and 1/4.
    assert over_budgets([2.0, 8.0], [0.5, 0.9], 1.0, 16.0, 0.1) == pytest.approx(0.1 / 4 + 0.5 / 2 + 0.9 / 4)
    # What costs more than the largest budget never fits.
    assert over_budgets([1.0, 32.0], [0.5, 0.9], 1.0, 16.0, 0.1) == pytest.approx(0.5)


def test_a_front_rises_to_its_cheapest_plan_within_one_standard_error_of_the_best():
    # Of 100 samples 90 are right: one standard error is 3.
    assert rise([2.0, 6.0, 8.0, 16.0], [0.8, 0.86, 0.87, 0.9], 100) == 4.0
    assert rise([2.0, 6.0, 8.0, 16.0], [0.8, 0.86, 0.865, 0.9], 100) == 8.0
    assert rise([2.0], [0.9], 100) == 1.0


def test_of_equal_accuracies_the_lower_loss_is_the_better():
    plans = [(1.0, 0.8, 0.5), (2.0, 0.9, 0.4), (3.0, 0.9, 0.45), (4.0, 0.9, 0.3), (5.0, 0.85, 0.1), (6.0, 0.9, 0.3)]
    assert front_by_loss(plans) == [1.0, 2.0, 4.0]
