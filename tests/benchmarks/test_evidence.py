"""The statistics that the evidence is reported by; measurements themselves are no tests."""

import random
from itertools import islice, pairwise

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.evidence.accuracy import KEYS, first
from benchmarks.evidence.accuracy_report import best_rows, interval, summary
from benchmarks.evidence.fronts import at_equal_cost, front, rank_correlation, spread, spread_out
from benchmarks.evidence.runs import SMALL, Ledger, Stage, complete_seeds, packed, unpacked
from benchmarks.evidence.samplers import hopeless, simulate
from bitsearch.choices import Choices
from bitsearch.pareto import hypervolume
from bitsearch.space import SearchSpace

POINTS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 10).map(lambda tenth: tenth / 10)), max_size=12)


def test_a_hypervolume_by_hand():
    # Up to (5, 0.5): from 1 to 3 by 0.2 above the reference, from 3 to 5 by 0.4; (4, 0.8) is dominated.
    assert hypervolume([(3, 0.9), (1, 0.7), (4, 0.8)], (5, 0.5)) == pytest.approx(2 * 0.2 + 2 * 0.4)
    assert hypervolume([(5, 0.9), (1, 0.5), (7, 1.0)], (5, 0.5)) == 0
    assert hypervolume([], (5, 0.5)) == 0


@settings(deadline=None)
@given(POINTS)
def test_a_hypervolume_is_the_area_that_is_dominated(points):
    # Whole numbers of costs and tenths of accuracy: unit cells can be counted.
    cells = sum(
        any(cost <= x and accuracy >= (y + 1) / 10 - 1e-9 for cost, accuracy in points)
        for x in range(1, 9)
        for y in range(2, 10)
    )
    assert hypervolume(points, (9, 0.2)) == pytest.approx(cells / 10)


@given(POINTS)
def test_a_front_holds_what_nothing_beats(points):
    kept = front(points)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(kept))
    for cost, accuracy in points:
        assert any(c <= cost and a >= accuracy for c, a in kept)
        better = any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in points)
        assert ((cost, accuracy) in kept) == (not better)


def test_numbers_spread_out_ever_more_finely():
    assert list(islice(spread_out(), 9)) == [0, 1, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]


def test_rank_correlations_are_spearmans():
    generator = random.Random(0)
    left = pd.Series([generator.randrange(8) for _ in range(40)])
    right = pd.Series([generator.randrange(8) + int(value) for value in left])
    assert rank_correlation(left, right) == pytest.approx(scipy.stats.spearmanr(left, right).statistic)
    assert pd.isna(rank_correlation(left, pd.Series([1.0] * 40)))


def test_what_only_grows_with_the_cost_says_nothing_at_equal_cost():
    cost = pd.Series([1.0] * 5 + [2.0] * 5)
    quality = pd.Series([1, 2, 3, 4, 5, 11, 12, 13, 14, 15])
    against = pd.Series([5, 4, 3, 2, 1, 15, 14, 13, 12, 11])
    # Spearman's 1 − 6·Σd² / (n³ − n), of ranks that differ by 4, 2, 0, 2 and 4 in either half.
    assert rank_correlation(quality, against) == pytest.approx(1 - 6 * 80 / 990)
    assert at_equal_cost(quality, against, cost, 2) == pytest.approx(-1)


def test_spreads_are_written_with_a_deviation_only_where_there_is_one():
    assert spread([0.5, 0.7], 100) == "60.00 ± 14.14"
    assert spread([0.5], 100, 1) == "50.0"
    assert spread([float("nan")]) == "—"


def test_a_ledger_goes_on_where_it_stopped(tmp_path):
    file = tmp_path / "table.csv"
    first = Ledger(file, ("seed", "plan"))
    first.add({"seed": 0, "plan": "1/2 1/1"}, [{"curve": "0.5", "validation": 0.25}, {"curve": "", "validation": 0.5}])
    again = Ledger(file, ("seed", "plan"))
    assert {"seed": 0, "plan": "1/2 1/1"} in again
    assert {"seed": 1, "plan": "1/2 1/1"} not in again
    assert list(again.table["validation"]) == [0.25, 0.5]
    assert again.table["curve"][0] == "0.5"


def test_only_seeds_with_every_plan_are_reported():
    table = pd.DataFrame({"seed": [0, 0, 1], "plan": ["a", "b", "a"]})
    assert set(complete_seeds(table, 2)["seed"]) == {0}


def test_a_trial_is_stopped_where_a_cheaper_one_was_much_better_at_the_same_epoch():
    good, bad = [0.5, 0.6, 0.7, 0.8, 0.9], [0.5, 0.5, 0.5, 0.6, 0.89]
    assert hopeless(bad, 2.0, [(1.0, good)]) == 4
    assert hopeless(bad, 0.5, [(1.0, good)]) is None
    assert hopeless(good, 2.0, [(1.0, bad)]) is None
    # Not for what one of them had at an epoch that is too early, or the last.
    assert hopeless([0.1, 0.1, 0.1, 0.8, 0.1], 2.0, [(1.0, good)]) is None


def test_what_stands_for_a_method_is_chosen_on_validation_within_the_budget():
    table = pd.DataFrame(
        [
            {"seed": 0, "method": "m", "budget": "2x", "cost": 2.0, "validation": 0.9, "test": 0.5, "cpu_seconds": 1},
            {"seed": 0, "method": "m", "budget": "2x", "cost": 1.5, "validation": 0.8, "test": 0.9, "cpu_seconds": 2},
            {"seed": 0, "method": "m", "budget": "4x", "cost": 0.5, "validation": 0.7, "test": 0.6, "cpu_seconds": 4},
        ]
    )
    best = best_rows(table, {"2x": 2.0, "4x": 1.0}, "cost").set_index("at")
    assert dict(best["test"]) == {"2x": 0.5, "4x": 0.6}
    assert dict(best["spent"]) == {"2x": 3, "4x": 4}


def test_a_sampler_that_sees_every_allocation_reaches_the_exact_front():
    import optuna

    choices = Choices(weight_bits=[1], spike_bits=[1, 2])
    rows = [
        {"plan": f"1/{a} 1/{b}", "cost": a + b, "validation": 0.1 * a + 0.2 * b, "curve": "0.1 0.2", "cpu_seconds": 1.0}
        for a in (1, 2)
        for b in (1, 2)
    ]
    sampler = optuna.samplers.BruteForceSampler(seed=0)
    found = simulate(pd.DataFrame(rows), "cost", choices, sampler, 4, pruned=False)
    assert [row["share"] for row in found] == sorted(row["share"] for row in found)
    assert found[-1]["share"] == pytest.approx(1)
    assert found[-1]["seconds"] == pytest.approx(4 + found[-1]["sampler_seconds"])


def test_plans_are_written_and_read(tmp_path):
    space = SearchSpace.load(SMALL).override(["training.full_precision_epochs=1", "training.epochs=1"])
    stage = Stage(space, 0, tmp_path)
    text = "1/3 2/1 1/2"
    assert stage.text(stage.plan(text)) == text
    row = stage.fixed(stage.plan(text))
    assert row["plan"] == text
    assert row["epochs"] == len(row["curve"].split()) == 1
    # The float network is kept: another stage has the same, and comes to the same.
    again = Stage(space, 0, tmp_path).fixed(stage.plan(text))
    assert again["validation"] == row["validation"]


def test_a_row_says_which_test_samples_are_right(tmp_path):
    space = SearchSpace.load(SMALL).override(["training.full_precision_epochs=1", "training.epochs=1"])
    stage = Stage(space, 0, tmp_path, outcomes=True)
    row = stage.float_row()
    right = unpacked(row["right"], len(stage.task.splits.test))
    assert len(right) == len(stage.task.splits.test)
    assert right.mean() == pytest.approx(row["test"])


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_outcomes_are_written_and_read(right):
    assert unpacked(packed(np.array(right)), len(right)).tolist() == right


def test_an_epoch_ranks_the_plans_of_one_seed_method_and_budget():
    def key(number, seed=0):
        return {"seed": seed, "method": "uniform", "budget": "8x", "attempt": number}

    rows = [key(number) | {"validation": score} for number, score in enumerate([0.5, 0.7, 0.6, 0.7])]
    rows += [key(number, seed=1) | {"validation": 0.9} for number in range(4)]
    keys = {number: key(number) for number in range(4)}
    assert first(pd.DataFrame(rows)[[*KEYS, "validation"]], keys, 2) == [1, 3]


def test_a_difference_has_the_interval_of_its_pairs():
    uniform = np.arange(1000) < 800
    own = np.arange(1000) < 830
    tables = [pd.DataFrame({"right": [packed(right)]}, index=[0]) for right in (own, uniform)]
    low, high = (float(part) for part in interval(*tables, 1000).split(" to "))
    # Thirty samples that only the first got right: its share of them is between 0.025**(1/30) and 1.
    assert (low, high) == (pytest.approx(3 * (2 * 0.025 ** (1 / 30) - 1), abs=0.01), pytest.approx(3.0))
    assert interval(tables[0].drop(columns="right"), tables[1], 1000) == "—"


def test_the_table_names_what_is_won_back():
    rows = [
        {"at": "8x", "method": method, "seed": 0, "test": test, "spent": 1.0}
        for method, test in (("uniform", 0.8), ("adaptive", 0.85))
    ]
    text = summary(pd.DataFrame(rows), pd.Series([0.9]), ["8x"], ["uniform", "adaptive"])
    assert "| 8x | adaptive | 85.00 | 5.00 | 5.00 | — | 50 % | 1 |" in text
